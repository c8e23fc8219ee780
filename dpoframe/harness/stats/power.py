"""What a number of prompts can find out, and how many it takes."""

from __future__ import annotations

import math

from scipy import special

from dpoframe.harness.stats.interval import TAIL

POWER = 0.8


def smallest_detectable(variance: float, n: int, *, power: float = POWER) -> float:
    """The smallest true mean difference that n paired units find at the 5 % level with this power.

    `variance` is that of one unit's difference: (z_{.975} + z_{power}) sqrt(variance / n).
    """
    return _quantiles(power) * math.sqrt(variance / n)


def units_needed(variance: float, distance: float, *, power: float = POWER) -> float:
    """How many paired units tell a true difference from a point `distance` away from it, at the 5 % level with this power.

    A whole number, or infinity where the distance is 0. The inverse of `smallest_detectable`.
    """
    if distance == 0:
        return math.inf
    return float(math.ceil(variance * (_quantiles(power) / distance) ** 2 - 1e-9))


def _quantiles(power: float) -> float:
    return float(special.ndtri(power) - special.ndtri(TAIL))
