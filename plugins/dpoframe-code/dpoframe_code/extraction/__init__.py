"""The program in a model's answer: found by rules that are named, without running any of it."""

from __future__ import annotations

from dpoframe_code.extraction.cutting import STOPS
from dpoframe_code.extraction.extract import Extracted, Rule, extract

__all__ = ["STOPS", "Extracted", "Rule", "extract"]
