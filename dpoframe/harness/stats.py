"""Intervals for the figures of an evaluation, and for the difference of two evaluations of the same prompts.

Everything takes plain sequences of floats and returns an `Interval`. The level is 95 % throughout.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95
RESAMPLES = 4999
_DRAWN_AT_ONCE = 2**20

Array = NDArray[np.float64]


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


def wilson(successes: float, n: int) -> Interval:
    """The score interval of a share (Wilson 1927): it stays inside [0, 1] and does not collapse at 0 or at 1.

    `stderr` is that of the sample mean, sqrt(p (1 - p) / (n - 1)).
    """
    share = successes / n
    z = _normal_quantile()
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    stderr = math.sqrt(share * (1 - share) / (n - 1)) if n > 1 else math.nan
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), stderr, n)


def t_interval(values: Sequence[float]) -> Interval:
    """Mean with Student's t interval, n - 1 degrees of freedom; bounds are nan for a single value."""
    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    mean = float(array.mean())
    if n < 2:
        return Interval(mean, math.nan, math.nan, math.nan, n)
    stderr = float(array.std(ddof=1) / math.sqrt(n))
    return _around(mean, stderr, n)


def cluster_stderr(values: Sequence[float], clusters: Sequence[Hashable], *, small_sample: bool = False) -> float:
    """Standard error of the mean of `values` where those of one cluster go together: sqrt(sum_c (sum_{i in c} e_i)^2) / n.

    e_i is the deviation from the mean (Liang and Zeger 1986). `small_sample` multiplies the variance by C / (C - 1).
    """
    array = np.asarray(values, dtype=np.float64)
    residuals = array - array.mean()
    sums: dict[Hashable, float] = {}
    for cluster, residual in zip(clusters, residuals.tolist(), strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + residual
    variance = sum(total * total for total in sums.values()) / len(array) ** 2
    count = len(sums)
    if small_sample:
        variance = variance * count / (count - 1) if count > 1 else math.nan
    return math.sqrt(variance)


def mean_interval(values: Sequence[float], clusters: Sequence[Hashable], *, share: bool = True) -> Interval:
    """The interval that fits the values: Wilson for one yes-or-no a cluster, t for one number, cluster-robust t for several.

    `clusters` names the unit each value belongs to (the prompt); `n` of the result is the number of clusters. `share`
    says that the values are bounded by 0 and 1; where not, zeros and ones are numbers like any other.
    """
    count = len(set(clusters))
    if count == len(values):
        return wilson(sum(values), count) if share and _binary(values) else t_interval(values)
    mean = float(np.mean(np.asarray(values, dtype=np.float64)))
    if count < 2:
        return Interval(mean, math.nan, math.nan, math.nan, count)
    return _around(mean, cluster_stderr(values, clusters, small_sample=True), count)


def paired_difference(
    before: Sequence[float], after: Sequence[float], clusters: Sequence[Hashable], *, share: bool = True
) -> Interval:
    """Mean of `after - before` over clusters, each cluster counting once; `share` as in `mean_interval`.

    Where `before` is one constant (the base compared with itself) the interval is that of `after`, moved. Yes-or-no
    values, one a cluster, take Newcombe's score interval for paired shares; everything else the BCa bootstrap over
    clusters (Efron 1987) with a fixed seed. Where all clusters differ by the same amount nothing can be resampled, and
    the t interval, of width 0, is given.
    """
    lone = len(set(clusters)) == len(clusters)
    if lone and len(set(before)) == 1 and before[0] not in (0.0, 1.0):
        return _moved(mean_interval(after, clusters, share=share), -before[0])
    if lone and share and _binary(before) and _binary(after):
        return newcombe(before, after)
    differences = _cluster_means(np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64), clusters)
    plain = t_interval(differences.tolist())
    if len(differences) < 3 or np.ptp(differences) == 0.0:
        return plain
    # Undivided, the resamples of a suite of 10,000 prompts would take a gigabyte.
    options = {"n_resamples": RESAMPLES, "batch": max(1, _DRAWN_AT_ONCE // len(differences)), "rng": np.random.default_rng(0)}
    drawn = stats.bootstrap((differences,), np.mean, confidence_level=LEVEL, method="BCa", **options)
    low, high = float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)
    if not (math.isfinite(low) and math.isfinite(high)):
        return plain
    return Interval(plain.value, low, high, float(drawn.standard_error), plain.n)


def newcombe(before: Sequence[float], after: Sequence[float]) -> Interval:
    """Difference of two paired shares by Newcombe (1998), method 10: Wilson intervals joined through their correlation."""
    n = len(before)
    first, second = wilson(sum(after), n), wilson(sum(before), n)
    phi = _phi(before, after)
    up, down = first.high - first.value, first.value - first.low
    other_up, other_down = second.high - second.value, second.value - second.low
    low = math.sqrt(max(0.0, down * down - 2 * phi * down * other_up + other_up * other_up))
    high = math.sqrt(max(0.0, up * up - 2 * phi * up * other_down + other_down * other_down))
    difference = first.value - second.value
    spread = t_interval([y - x for x, y in zip(before, after, strict=True)]).stderr
    return Interval(difference, max(-1.0, difference - low), min(1.0, difference + high), spread, n)


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p value that `gained` and `lost` discordant pairs come from a fair coin (McNemar 1947)."""
    if gained + lost == 0:
        return 1.0
    return float(stats.binomtest(gained, gained + lost, 0.5).pvalue)


def smallest_detectable(variance: float, n: int, *, power: float = 0.8) -> float:
    """The smallest true mean difference that n paired units find at the 5 % level with this power.

    `variance` is that of one unit's difference: (z_{.975} + z_{power}) sqrt(variance / n).
    """
    return float((_normal_quantile() + stats.norm.ppf(power)) * math.sqrt(variance / n))


def _normal_quantile() -> float:
    return float(stats.norm.ppf(0.5 + LEVEL / 2))


def _around(mean: float, stderr: float, n: int) -> Interval:
    half = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1)) * stderr
    return Interval(mean, mean - half, mean + half, stderr, n)


def _moved(one: Interval, by: float) -> Interval:
    return Interval(one.value + by, one.low + by, one.high + by, one.stderr, one.n)


def _binary(values: Sequence[float]) -> bool:
    return all(value in (0.0, 1.0) for value in values)


def _cluster_means(values: Array, clusters: Sequence[Hashable]) -> Array:
    groups: dict[Hashable, list[float]] = {}
    for cluster, value in zip(clusters, values.tolist(), strict=True):
        groups.setdefault(cluster, []).append(value)
    return np.asarray([float(np.mean(group)) for group in groups.values()], dtype=np.float64)


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
