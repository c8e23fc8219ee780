"""How far probabilities are from the shares that come true."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from dpoframe_moderation.evaluators.curve import Flags, Floats


def calibration_error(chances: Floats, positive: Flags, bins: int, one: Literal["last", "own"] = "last") -> float:
    """Expected calibration error: the mean distance, weighed by size, of a bin's mean probability and its share of positives.

    The probability is that of the positive class (Guo et al. 2017, arXiv 1706.04599, equation 3, for one class), and the bins
    are equally wide and hold their lower end.

    Args:
        chances: (N,) probabilities.
        positive: (N,) what was true.
        bins: How many there are.
        one: Where a probability of exactly 1 goes: into the `last` bin, or as torchmetrics has it into one of its `own`. A
            model that is sure of much gives other figures by the two.
    """
    if not len(chances):
        return math.nan
    place = np.searchsorted(np.linspace(0.0, 1.0, bins + 1), chances, side="right") - 1
    place = np.minimum(place, bins - 1) if one == "last" else place
    gap = np.bincount(place, weights=chances - positive, minlength=bins)
    return float(np.abs(gap).sum() / len(chances))
