"""Preference data: reading, checking and splitting it (`load_pairs`), and batching it."""

from __future__ import annotations

from dpoframe.data.loading import LoadedPairs, load_pairs
from dpoframe.data.opening import open_dataset

__all__ = ["LoadedPairs", "load_pairs", "open_dataset"]
