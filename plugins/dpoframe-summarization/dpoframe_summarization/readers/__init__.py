"""Data sets: published layouts of summaries, and files of one's own, as preference pairs."""
