"""Scores of programs."""
