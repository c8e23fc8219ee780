"""The win rate that would be, were both answers of one length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PENALTY = 1e-3
"""Weight of the squared coefficients: too small to be seen in a figure, and enough for the fit to exist where all are wins."""

_STEPS = 100
_NEAR = 1e-10


def length_controlled(wins: Sequence[float], differences: Sequence[float]) -> float:
    """The win rate at equal lengths, by a logistic regression of the wins on the difference in length.

    P(win) = sigmoid(a + b tanh(difference / s)), with s the standard deviation of the differences; the figure is
    sigmoid(a). This is the length term of the length-controlled AlpacaEval 2 (Dubois et al. 2024, arXiv 2404.04475,
    section 3), without its terms for the difficulty of instructions, which many models' results are needed to fit.

    Args:
        wins: (n,) 1 for a win, 0 for a loss, between for ties and disagreeing orders.
        differences: (n,) length of the answer less that of its rival, in any unit.
    """
    target, raw = np.asarray(wins, dtype=np.float64), np.asarray(differences, dtype=np.float64)
    spread = float(raw.std(ddof=1)) if len(raw) > 1 else 0.0
    term = np.tanh(raw / spread) if spread > 0 else np.zeros_like(raw)
    intercept, _ = fit(target, np.column_stack([np.ones_like(term), term]))
    return float(_sigmoid(intercept))


def fit(target: Array, design: Array) -> Array:
    """Coefficients (k,) that maximise the likelihood of `target` (n,) given `design` (n, k), less PENALTY / 2 |w|^2.

    Newton's method; the loss is convex, and a step that does not lower it is halved.
    """
    found = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        share = _sigmoid(design @ found)
        gradient = design.T @ (share - target) + PENALTY * found
        if float(np.abs(gradient).max()) < _NEAR * len(target):
            break
        curvature = design.T @ (design * (share * (1 - share))[:, None]) + PENALTY * np.eye(len(found))
        step = np.linalg.solve(curvature, gradient)
        while _loss(target, design, found - step) > _loss(target, design, found) and float(np.abs(step).max()) > _NEAR:
            step = step / 2
        found = found - step
    return found


def _loss(target: Array, design: Array, weights: Array) -> float:
    """Cross-entropy, log(1 + exp(z)) - y z, with the penalty."""
    logits = design @ weights
    return float(np.sum(np.logaddexp(0.0, logits) - target * logits) + PENALTY / 2 * (weights @ weights))


def _sigmoid(value: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -value)))
