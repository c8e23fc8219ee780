"""Data sets of picture preferences: each layout in a module of its own, registered by name in the package's hooks."""
