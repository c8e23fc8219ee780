"""What a draw of k answers out of n holds, by the unbiased estimators."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence


def expected_maximum(values: Sequence[float], k: int) -> float:
    """The mean of the largest of k of the n values, over all draws without putting back; for k = n their maximum.

    The i-th smallest value is the largest of C(i-1, k-1) of the C(n, k) draws.

    Raises:
        ValueError: k is not from 1 to n.
    """
    if k == len(values):
        return max(values)
    return sum(weight * value for weight, value in zip(_weights(len(values), k), sorted(values), strict=True))


def chance_of_any(count: int, n: int, k: int) -> float:
    """The share of all draws of k from n that hold at least one of `count`: 1 - C(n-count, k) / C(n, k)."""
    return 1 - math.comb(n - count, k) / math.comb(n, k)


@functools.cache
def _weights(n: int, k: int) -> tuple[float, ...]:
    if not 1 <= k <= n:
        raise ValueError(f"k is {k} and there are {n} values, expected 1 to {n}")
    return tuple(math.comb(place, k - 1) / math.comb(n, k) for place in range(n))
