"""Shares: of one sample of yes-or-no values, and the difference of two that are paired."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import optimize, special, stats

from dpoframe.harness.stats.interval import Estimate, Interval

_BEYOND = 1e-12


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


def constant_share(value: float, n: int) -> Estimate:
    """The mean of n values between 0 and 1 that are all `value`.

    No spread to see does not mean that there is none: none of n was otherwise, so by Wilson's interval at most a share u
    is, and the mean lies between (1 - u) value and (1 - u) value + u. At 0 and at 1 that is Wilson's interval itself.
    """

    def bounds(tail: float) -> tuple[float, float]:
        unseen = _score_bounds(0.0, n, tail)[1]
        return (1 - unseen) * value, (1 - unseen) * value + unseen

    return Estimate(value, 0.0 if n > 1 else math.nan, n, bounds)


def tango(gained: int, lost: int, n: int) -> Interval:
    """Difference of two paired shares by Tango's (1998) score interval, from the pairs that went from 0 to 1 and back.

    It is the one for non-inferiority: where next to all pairs agree, intervals joined from those of the two shares
    (Newcombe's method 10) miss a small loss several times as often as they promise.
    """
    return share_difference(gained, lost, n).interval()


def share_difference(gained: int, lost: int, n: int) -> Estimate:
    """As `tango`, at any level. `stderr` is that of the mean of the paired differences."""
    value = (gained - lost) / n

    def bounds(tail: float) -> tuple[float, float]:
        z = -float(special.ndtri(tail))
        return -_upper(lost, gained, n, z), _upper(gained, lost, n, z)

    # E (y - x)^2 of yes-or-no values is the share of discordant pairs.
    variance = max(0.0, (gained + lost) / n - value * value)
    return Estimate(value, math.sqrt(variance / (n - 1)) if n > 1 else math.nan, n, bounds)


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


def _upper(gained: int, lost: int, n: int, z: float) -> float:
    """The largest true difference whose score statistic is within z of 0."""
    if z <= 0:
        return (gained - lost) / n

    def past(difference: float) -> float:
        return n * difference - gained + lost - z * _spread(gained, lost, n, difference)

    # Where no pair flipped the difference itself is a root, and not the one that is looked for.
    start = min(1.0, (gained - lost) / n + _BEYOND)
    if past(start) >= 0:
        return start
    return float(optimize.brentq(past, start, 1.0)) if past(1.0) > 0 else 1.0


def _spread(gained: int, lost: int, n: int, difference: float) -> float:
    """Standard deviation of gained - lost, were `difference` true, at the most likely share of lost pairs (Tango's equation 6)."""
    linear = (2 * n - gained + lost) * difference - gained - lost
    constant = lost * difference * (1 - difference)
    share_lost = (math.sqrt(max(0.0, linear * linear + 8 * n * constant)) - linear) / (4 * n)
    return math.sqrt(max(0.0, n * (2 * share_lost + difference * (1 - difference))))
