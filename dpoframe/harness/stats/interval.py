"""A figure with its uncertainty: as an interval at the house's level, and as an estimate whose interval can have any level."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy import special

LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
_LEAST = 1e-300
_HALVINGS = 50


@dataclass(frozen=True)
class Interval:
    """A figure with its uncertainty: `low` and `high` bound the 95 % interval; `n` counts independent units (clusters)."""

    value: float
    low: float
    high: float
    stderr: float
    n: int

    def excludes(self, point: float) -> bool:
        """Whether `point` lies outside the interval; False where the interval is not known."""
        return self.low > point or self.high < point


UNKNOWN = Interval(math.nan, math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Estimate:
    """A figure that knows its interval at every level, so that a p value never contradicts the interval beside it.

    Attributes:
        value: The figure.
        stderr: Its standard error.
        n: Independent units (clusters).
        bounds: From a tail probability in (0, .5] (.025 for the 95 % interval) to both ends; nan where they are not known.
        finest: The smallest tail probability that `bounds` can tell apart from 0.
    """

    value: float
    stderr: float
    n: int
    bounds: Callable[[float], tuple[float, float]]
    finest: float = 0.0

    def interval(self, tail: float = TAIL) -> Interval:
        """The interval that leaves `tail` out on either side."""
        low, high = self.bounds(tail)
        return Interval(self.value, low, high, self.stderr, self.n)

    def moved(self, by: float) -> Estimate:
        """The same figure, shifted by a constant that is known without error."""

        def bounds(tail: float) -> tuple[float, float]:
            low, high = self.bounds(tail)
            return low + by, high + by

        return Estimate(self.value + by, self.stderr, self.n, bounds, self.finest)

    def within(self, lowest: float, highest: float) -> Estimate:
        """The same figure, of which it is known that it lies between two numbers: bounds beyond them are cut off."""

        def bounds(tail: float) -> tuple[float, float]:
            low, high = self.bounds(tail)
            return (low if math.isnan(low) else max(low, lowest)), (high if math.isnan(high) else min(high, highest))

        return Estimate(self.value, self.stderr, self.n, bounds, self.finest)

    def mirrored(self) -> Estimate:
        """Minus the figure."""

        def bounds(tail: float) -> tuple[float, float]:
            low, high = self.bounds(tail)
            return -high, -low

        return Estimate(-self.value, self.stderr, self.n, bounds, self.finest)

    def above(self, point: float) -> float:
        """One-sided p value against a true figure of at most `point`: the tail at which the lower bound passes it.

        1 where the lower bound stays at or under `point` whatever the level, or is not known.
        """
        return self._tail(lambda tail: self.bounds(tail)[0] > point)

    def below(self, point: float) -> float:
        """One-sided p value against a true figure of at least `point`."""
        return self._tail(lambda tail: self.bounds(tail)[1] < point)

    def p_value(self, point: float = 0.0) -> float:
        """Two-sided p value against a true figure of `point`: under .05 exactly where the 95 % interval excludes it."""
        return min(1.0, 2 * min(self.above(point), self.below(point)))

    def _tail(self, passes: Callable[[float], bool]) -> float:
        """The smallest tail for which `passes` holds; it holds for every larger one, because intervals are nested."""
        if not passes(0.5):
            return 1.0
        near, far = 0.0, -float(special.ndtri(max(self.finest, _LEAST)))
        for _ in range(_HALVINGS):
            middle = (near + far) / 2
            if passes(float(special.ndtr(-middle))):
                near = middle
            else:
                far = middle
        return max(float(special.ndtr(-near)), self.finest)


def student(value: float, stderr: float, n: int) -> Estimate:
    """Student's t around a mean of `n` units, n - 1 degrees of freedom; bounds are nan for a single unit."""

    def bounds(tail: float) -> tuple[float, float]:
        half = -float(special.stdtrit(n - 1, tail)) * stderr if n > 1 else math.nan
        return value - half, value + half

    return Estimate(value, stderr if n > 1 else math.nan, n, bounds)


def from_interval(known: Interval) -> Estimate:
    """The estimate behind a 95 % interval of which nothing else is known: either side grows as a normal quantile does."""

    def bounds(tail: float) -> tuple[float, float]:
        grown = float(special.ndtri(tail) / special.ndtri(TAIL))
        return known.value - grown * (known.value - known.low), known.value + grown * (known.high - known.value)

    return Estimate(known.value, known.stderr, known.n, bounds)
