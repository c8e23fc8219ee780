"""Right and wrong flags counted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from dpoframe_moderation.evaluators.curve import f1

SAFE, UNSAFE, NEITHER = 0, 1, 2
"""What an answer said of a text: that it is not of the category, that it is, or nothing that could be read."""


def coded(truth: bool, said: int) -> float:
    """Both in one number."""
    return float(3 * truth + said)


@dataclass(frozen=True)
class Counts:
    """How often what was true met what was said.

    Attributes:
        cells: Counts by the number of `coded`.
    """

    cells: tuple[int, ...]

    @classmethod
    def of(cls, codes: Iterable[float]) -> Counts:
        """The counts of these numbers."""
        cells = [0] * 6
        for code in codes:
            cells[int(code)] += 1
        return cls(tuple(cells))

    @property
    def found(self) -> int:
        """Positives that were flagged."""
        return self.cells[3 + UNSAFE]

    @property
    def wrong(self) -> int:
        """Negatives that were flagged."""
        return self.cells[UNSAFE]

    def precision(self) -> float:
        """The share of flags that are right; nan where nothing is flagged."""
        return self.found / (self.found + self.wrong) if self.found + self.wrong else math.nan

    def f1(self) -> float:
        """Harmonic mean of precision and recall; nan where nothing is positive and nothing flagged."""
        return f1(self.found, self.wrong, sum(self.cells[3:]))
