"""What the first step must show: a policy that has not moved scores as its reference does, and the loss is that of equal scores."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dpoframe.loss import Loss
from dpoframe.train.step import LOSS, WEIGHT, Columns, score_gradients
from dpoframe.types import PairScores

DRIFT, EXPECTED, OFF, SLOPE = "start/drift", "start/expected", "start/off", "start/slope"
START = (DRIFT, EXPECTED, OFF, SLOPE)

# In units of `rounding`, times the root of the response's length. A copy and an adapter switched off are scored in the policy's
# own batches, by its own arithmetic: nothing differed on the language models tried. Cached scores come from batches of other
# shapes, which round otherwise: by 0.2 of these units on average there in float32, by 0.4 in bfloat16.
SAME_BATCHES, OTHER_BATCHES = 2.0, 6.0
UNIT = {"transformer-engine": 2.0**-4, "bf16": 2.0**-8, "16": 2.0**-11}
# The least unit: float32 has 2**-24, but its errors pile up from layer to layer.
LEAST = 2.0**-20


def start_figures(loss: Loss, columns: Columns, scores: PairScores) -> dict[str, Tensor]:
    """How far the scores of a step are from equal, and its loss from that of equal scores; all 0-dim.

    `start/drift` is the mean of |log-ratio| over both responses, `start/expected` the loss of equal scores, `start/off` how far the
    step's loss is from it, `start/slope` by how much it changes at most where every log-ratio moves by one. The loss of equal
    scores is not known of a loss that reads vectors, which no whole step has; its own then stands for it.
    """
    weight = columns[WEIGHT].to(columns[LOSS])
    drift = (scores.chosen_logratio.abs() + scores.rejected_logratio.abs()).mean() / 2
    if loss.vectors:
        mean = (columns[LOSS] * weight).mean()
        return {DRIFT: drift, EXPECTED: mean, OFF: torch.zeros_like(mean), SLOPE: torch.zeros_like(mean)}
    detail = {name: _policys(name, scores.detail) for name in scores.detail}
    equal = scores.replace(reference_chosen=scores.policy_chosen, reference_rejected=scores.policy_rejected, detail=detail)
    gradients, losses = score_gradients(loss, equal, weight)
    steepest = [gradient.abs().max() * len(gradient) for gradient in gradients.values()]
    expected = (losses * weight).mean()
    return {
        DRIFT: drift,
        EXPECTED: expected,
        OFF: (columns[LOSS] * weight).mean() - expected,
        SLOPE: torch.stack(steepest).sum() if steepest else torch.zeros_like(expected),
    }


def _policys(name: str, detail: Mapping[str, Tensor]) -> Tensor:
    """The policy's entry in place of the reference's."""
    return detail.get(name.replace("reference", "policy", 1) if name.startswith("reference") else name, detail[name])


def rounding(precision: str, model: nn.Module) -> float:
    """The relative error of one rounding, by the run's precision and the coarsest type of the weights."""
    run = next((unit for name, unit in UNIT.items() if name in precision), LEAST)
    held = (torch.finfo(value.dtype).eps / 2 for value in model.parameters() if value.is_floating_point())
    products = {"highest": LEAST, "high": 2.0**-11, "medium": 2.0**-8}[torch.get_float32_matmul_precision()]
    return max(LEAST, run, products, *held)


def score_tolerance(kind: str, unit: float, score: float, length: float) -> float:
    """What scores may differ by rounding, on average, for a reference kind.

    The errors of a response's units (tokens) are independent, so their sum grows with the root of their number.
    """
    root = math.sqrt(max(1.0, length))
    return (OTHER_BATCHES if kind == "cached" else SAME_BATCHES) * unit * (root + abs(score) / root)
