"""Pairs of a good and a worse summary of one article."""

from dpoframe_summarization.pairs.corrupting import Corruption, Kind, corruptions
from dpoframe_summarization.pairs.rated import Choice, Rule, choices

__all__ = ["Choice", "Corruption", "Kind", "Rule", "choices", "corruptions"]
