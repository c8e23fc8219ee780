"""The phases of an evaluation, each of which does only what is not in the store yet."""
