"""What a classifier finds as its threshold comes down."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class Curve:
    """Counts at each different score, the highest first; equal scores are above a threshold together or not at all.

    Attributes:
        found: (T,) positives at or above the score.
        wrong: (T,) negatives at or above it.
    """

    found: Floats
    wrong: Floats

    @classmethod
    def of(cls, scores: Floats, positive: Flags) -> Curve | None:
        """The curve of (N,) scores, None where one of the classes is absent: no figure of it is known then."""
        if not positive.any() or positive.all():
            return None
        order = np.argsort(-scores, kind="stable")
        ordered = scores[order]
        ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
        found = np.cumsum(positive[order], dtype=np.float64)[ends]
        return cls(found, ends + 1 - found)

    @property
    def recall(self) -> Floats:
        """(T,) share of the positives at or above each score."""
        found: Floats = self.found / self.found[-1]
        return found

    @property
    def false_positive_rate(self) -> Floats:
        """(T,) share of the negatives at or above each score."""
        found: Floats = self.wrong / self.wrong[-1]
        return found

    def average_precision(self) -> float:
        """Area under precision over recall in steps, without interpolation: the sum of precision times the gain in recall."""
        return float((np.diff(self.recall, prepend=0.0) * self.found / (self.found + self.wrong)).sum())

    def roc_area(self) -> float:
        """The chance that a positive scores above a negative; a tie counts one half."""
        height = np.append(0.0, self.recall)
        return float((np.diff(self.false_positive_rate, prepend=0.0) * (height[1:] + height[:-1])).sum() / 2)

    def recall_at(self, rate: float) -> float:
        """The largest recall that keeps the false-positive rate at or below `rate`; 0 where no threshold does."""
        return float(self.recall[self.false_positive_rate <= rate].max(initial=0.0))


def f1(found: float, wrong: float, positives: float) -> float:
    """Harmonic mean of precision and recall from counts; nan where nothing is positive and nothing flagged."""
    return 2 * found / (found + wrong + positives) if found + wrong + positives else math.nan
