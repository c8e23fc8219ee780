"""The bootstrap over clusters: what a figure would have been, had other clusters been drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import special

from dpoframe.harness.stats.interval import Estimate

RESAMPLES = 4999
SEED = 0
_DRAWN_AT_ONCE = 2**20

Array = NDArray[np.float64]


def picks(clusters: int, resamples: int = RESAMPLES) -> Iterator[NDArray[np.int64]]:
    """Indices of the clusters of each resample, (some, `clusters`) at a time; the seed is fixed.

    Undivided, the resamples of a suite of 10,000 prompts would take 400 MB.
    """
    generator = np.random.default_rng(SEED)
    at_once = max(1, _DRAWN_AT_ONCE // clusters)
    for start in range(0, resamples, at_once):
        yield generator.integers(0, clusters, (min(at_once, resamples - start), clusters))


def resampled_means(sums: Array, sizes: Array) -> Array:
    """(RESAMPLES,) means over the values of clusters drawn with replacement, from each cluster's sum and count, both (C,)."""
    if np.ptp(sizes) == 0.0:
        return np.concatenate([(sums / sizes)[picked].mean(axis=1) for picked in picks(len(sums))])
    return np.concatenate([sums[picked].sum(axis=1) / sizes[picked].sum(axis=1) for picked in picks(len(sums))])


def acceleration(left_out: Array) -> float:
    """How the spread of a figure changes with it, from its values with one cluster left out (Efron 1987, equation 6.6)."""
    steps = left_out.mean() - left_out
    spread = float((steps**2).sum())
    return float((steps**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0


def accelerated(value: float, draws: Array, bend: float, stderr: float, n: int) -> Estimate:
    """The bias-corrected accelerated (BCa) bootstrap estimate, its tails widened for few clusters.

    Resamples of n clusters vary by (n - 1) / n too little, and know nothing of Student's t; tails are taken further out
    by just that (Hesterberg 2015, "expanded" percentiles), so that for a normal figure the interval is Student's.

    Args:
        value: The figure itself.
        draws: Its values on the resamples.
        bend: Its acceleration.
        stderr: Its standard error.
        n: Clusters; at least 2.
    """
    ordered = np.sort(draws)
    # Draws equal to the figure, of which there are many where values are coarse, count as half below it.
    under = float((ordered < value).mean() + (ordered <= value).mean()) / 2
    shift = float(special.ndtri(under)) if 0 < under < 1 else math.nan

    def bounds(tail: float) -> tuple[float, float]:
        far = math.sqrt(n / (n - 1)) * float(special.stdtrit(n - 1, tail))
        low, high = (_quantile(ordered, _bent(side, shift, bend)) for side in (far, -far))
        return (low, high) if math.isfinite(shift) else (math.nan, math.nan)

    return Estimate(value, stderr, n, bounds, 1 / (len(draws) + 1))


def _bent(z: float, shift: float, bend: float) -> float:
    """The share of draws below the bound that a normal quantile stands for; past the pole of the formula, the last one."""
    if not math.isfinite(shift):
        return 0.5
    room = 1 - bend * (shift + z)
    if room <= 0:
        return 1.0 if shift + z > 0 else 0.0
    return float(special.ndtr(shift + (shift + z) / room))


def _quantile(ordered: Array, share: float) -> float:
    """As `np.quantile`, without sorting again for every level that is asked for."""
    place = share * (len(ordered) - 1)
    under = int(place)
    over = min(under + 1, len(ordered) - 1)
    return float(ordered[under] + (place - under) * (ordered[over] - ordered[under]))
