"""Losses for moderators."""
