"""The unbiased estimator of pass@k."""

from __future__ import annotations

import math


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that of k answers drawn from n without putting back at least one is among the c that pass.

    1 - C(n-c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374, equation 1), in whole numbers up to the last division.

    Args:
        n: Answers to the problem.
        c: How many of them pass.
        k: How many are drawn.

    Raises:
        ValueError: k is not from 1 to n, or c not from 0 to n: there is no unbiased estimate of pass@k from fewer answers.
    """
    if not 0 <= c <= n:
        raise ValueError(f"{c} of {n} answers pass; the count must be from 0 to {n}")
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} cannot be estimated from {n} answers a problem; it takes at least {max(k, 1)}")
    return 1 - math.comb(n - c, k) / math.comb(n, k)
