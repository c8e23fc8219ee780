"""Published data sets of moderation, and layouts of one's own."""
