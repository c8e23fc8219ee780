"""Shares: of one sample of yes-or-no values, and the difference of two that are paired."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import special, stats

from dpoframe.harness.stats.interval import Estimate, Interval


def wilson(successes: float, n: int) -> Interval:
    """The score interval of a share (Wilson 1927): it stays inside [0, 1] and does not collapse at 0 or at 1.

    `stderr` is that of the sample mean, sqrt(p (1 - p) / (n - 1)).
    """
    return share(successes, n).interval()


def share(successes: float, n: int) -> Estimate:
    """As `wilson`, at any level."""
    p = successes / n
    stderr = math.sqrt(p * (1 - p) / (n - 1)) if n > 1 else math.nan
    return Estimate(p, stderr, n, lambda tail: _score_bounds(p, n, tail))


def newcombe(before: Sequence[float], after: Sequence[float]) -> Interval:
    """Difference of two paired shares by Newcombe (1998), method 10: Wilson intervals joined through their correlation."""
    return share_difference(before, after).interval()


def share_difference(before: Sequence[float], after: Sequence[float]) -> Estimate:
    """As `newcombe`, at any level. `stderr` is that of the mean of the paired differences."""
    n = len(before)
    first, second = sum(after) / n, sum(before) / n
    phi = _phi(before, after)

    def bounds(tail: float) -> tuple[float, float]:
        (low, high), (other_low, other_high) = _score_bounds(first, n, tail), _score_bounds(second, n, tail)
        down = _joined(first - low, other_high - second, phi)
        up = _joined(high - first, second - other_low, phi)
        return max(-1.0, first - second - down), min(1.0, first - second + up)

    # E (y - x)^2 of yes-or-no values is the share of discordant pairs.
    discordant = sum(1 for x, y in zip(before, after, strict=True) if x != y) / n
    spread = math.sqrt(max(0.0, discordant - (first - second) ** 2) / (n - 1)) if n > 1 else math.nan
    return Estimate(first - second, spread, n, bounds)


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p value that `gained` and `lost` discordant pairs come from a fair coin (McNemar 1947)."""
    if gained + lost == 0:
        return 1.0
    return float(stats.binomtest(gained, gained + lost, 0.5).pvalue)


def is_binary(values: Sequence[float]) -> bool:
    """Whether every value is 0 or 1."""
    return all(value in (0.0, 1.0) for value in values)


def _score_bounds(p: float, n: int, tail: float) -> tuple[float, float]:
    z = -float(special.ndtri(tail))
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _joined(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))


def _phi(before: Sequence[float], after: Sequence[float]) -> float:
    """Newcombe's phi with his continuity correction: n/2 is taken off a positive cross product, never past 0."""
    both = sum(1 for x, y in zip(before, after, strict=True) if x == y == 1.0)
    neither = sum(1 for x, y in zip(before, after, strict=True) if x == y == 0.0)
    gained = sum(1 for x, y in zip(before, after, strict=True) if x < y)
    lost = len(before) - both - neither - gained
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    if margins == 0:
        return 0.0
    cross = float(both * neither - gained * lost)
    if cross > 0:
        cross = max(cross - len(before) / 2, 0.0)
    return cross / math.sqrt(margins)
