"""Means: of values that may go together in clusters, and of the paired differences of two runs."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from dpoframe.harness.stats.bootstrap import Array, accelerated, acceleration, resampled_means
from dpoframe.harness.stats.interval import UNKNOWN, Estimate, Interval, student
from dpoframe.harness.stats.share import constant_share, is_binary, share_difference
from dpoframe.harness.stats.share import share as share_of

FEWEST = 3


def t_interval(values: Sequence[float]) -> Interval:
    """Mean with Student's t interval, n - 1 degrees of freedom; bounds are nan for a single value."""
    return _t(values).interval()


def cluster_stderr(values: Sequence[float], clusters: Sequence[Hashable], *, small_sample: bool = False) -> float:
    """Standard error of the mean of `values` where those of one cluster go together: sqrt(sum_c (sum_{i in c} e_i)^2) / n.

    e_i is the deviation from the mean (Liang and Zeger 1986). `small_sample` multiplies the variance by C / (C - 1).
    """
    sums, sizes = _by_cluster(values, clusters)
    return _robust(sums, sizes, small_sample)


def mean_interval(values: Sequence[float], clusters: Sequence[Hashable], *, share: bool = True) -> Interval:
    """The interval that fits the values: Wilson for one yes-or-no a cluster, t for one number, cluster-robust t for several.

    Shares that are all the same take an interval that allows for what was not seen, each cluster counting once.

    `clusters` names the unit each value belongs to (the prompt); `n` of the result is the number of clusters. `share`
    says that the values are bounded by 0 and 1, and so is the interval; where not, zeros and ones are numbers like any other.
    """
    return mean_estimate(values, clusters, share=share).interval()


def mean_estimate(values: Sequence[float], clusters: Sequence[Hashable], *, share: bool = True) -> Estimate:
    """As `mean_interval`, at any level; no values at all give a figure that is unknown."""
    if not values:
        return Estimate(UNKNOWN.value, UNKNOWN.stderr, 0, lambda tail: (math.nan, math.nan))
    count = len(set(clusters))
    if share and len(set(values)) == 1 and 0.0 <= values[0] <= 1.0:
        return constant_share(values[0], count)
    if count == len(values):
        found = share_of(sum(values), count) if share and is_binary(values) else _t(values)
    else:
        sums, sizes = _by_cluster(values, clusters)
        found = student(float(sums.sum() / sizes.sum()), _robust(sums, sizes, small_sample=True), count)
    return found.within(0.0, 1.0) if share and min(values) >= 0.0 and max(values) <= 1.0 else found


def paired_difference(
    before: Sequence[float], after: Sequence[float], clusters: Sequence[Hashable], *, share: bool = True
) -> Interval:
    """Mean of `after - before` over samples, those of one cluster going together; `share` as in `mean_interval`.

    Where `before` is one constant (the base compared with itself) the interval is that of `after`, moved. Yes-or-no
    values, one a cluster, take Tango's score interval for paired shares; everything else the BCa bootstrap over
    clusters with a fixed seed. Where all clusters differ by the same amount nothing can be resampled: for shares the
    interval reaches as far as a prompt that differs could have been missed (`_unseen`), for numbers it has no width.
    """
    return paired_estimate(before, after, clusters, share=share).interval()


def paired_estimate(
    before: Sequence[float], after: Sequence[float], clusters: Sequence[Hashable], *, share: bool = True
) -> Estimate:
    """As `paired_difference`, at any level."""
    lone = len(set(clusters)) == len(clusters)
    if len(set(before)) == 1 and before[0] not in (0.0, 1.0):
        return mean_estimate(after, clusters, share=share).moved(-before[0])
    if lone and share and is_binary(before) and is_binary(after):
        gained = sum(1 for first, second in zip(before, after, strict=True) if first < second)
        lost = sum(1 for first, second in zip(before, after, strict=True) if first > second)
        return share_difference(gained, lost, len(before))
    differences = [second - first for first, second in zip(before, after, strict=True)]
    sums, sizes = _by_cluster(differences, clusters)
    mean, count = float(sums.sum() / sizes.sum()), len(sums)
    plain = student(mean, _robust(sums, sizes, small_sample=True), count)
    if np.ptp(sums / sizes) == 0.0:
        return _unseen(plain) if share and is_binary([*before, *after]) else plain
    if count < FEWEST:
        return plain
    left_out = (sums.sum() - sums) / (sizes.sum() - sizes)
    found = accelerated(mean, resampled_means(sums, sizes), acceleration(left_out), plain.stderr, count)
    return found if math.isfinite(found.bounds(0.25)[0]) else plain


def _t(values: Sequence[float]) -> Estimate:
    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    return student(float(array.mean()), float(array.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan, n)


def _unseen(same: Estimate) -> Estimate:
    """Yes-or-no values whose clusters all differ by the same: none of n was otherwise, which Wilson bounds."""

    def bounds(tail: float) -> tuple[float, float]:
        reach = share_of(0, same.n).bounds(tail)[1]
        return max(-1.0, same.value - reach), min(1.0, same.value + reach)

    return Estimate(same.value, same.stderr, same.n, bounds)


def _by_cluster(values: Sequence[float], clusters: Sequence[Hashable]) -> tuple[Array, Array]:
    """(C,) sum and (C,) count of the values of each cluster, in the order in which the clusters first appear."""
    places: dict[Hashable, int] = {}
    where = [places.setdefault(cluster, len(places)) for cluster in clusters]
    sums = np.bincount(where, np.asarray(values, dtype=np.float64), len(places)).astype(np.float64)
    return sums, np.bincount(where, minlength=len(places)).astype(np.float64)


def _robust(sums: Array, sizes: Array, small_sample: bool) -> float:
    """Cluster-robust standard error of the mean from each cluster's sum and count."""
    residuals = sums - sizes * (sums.sum() / sizes.sum())
    variance = float((residuals**2).sum()) / float(sizes.sum()) ** 2
    count = len(sums)
    if small_sample:
        variance = variance * count / (count - 1) if count > 1 else math.nan
    return math.sqrt(variance)
