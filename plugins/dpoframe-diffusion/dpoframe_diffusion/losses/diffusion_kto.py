"""Diffusion-KTO: each image is judged on its own, by a utility."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import functional

from dpoframe import Loss, PairScores
from dpoframe_diffusion.losses.errors import squared_error


@dataclass(frozen=True)
class DiffusionKto(Loss):
    """Diffusion-KTO (Li et al., arXiv 2404.04465) on the two images of a pair: the mean of w (1 - u(+-beta (g - z))).

    g = -(MSE - MSEref); z = max(0, mean of g over all images of the step), without gradient; the sign is + for the chosen and -
    for the rejected image. The utility u(x) is s(x) (`sigmoid`: cautious on both sides), LS(x) (`loss_averse`) or -LS(-x)
    (`risk_seeking`); the paper finds `sigmoid` best.

    beta multiplies differences of the errors themselves, as `beta_dpo` does in the authors' code, which has no 1/2. A score is
    -MSE/2, so beta = 1000 here pulls like beta = 2000 in a loss of scores, such as the core's `sigmoid` or `kto`.

    Attributes:
        beta: A reward per unit of squared error, above 0; the authors' code has 1000.
        utility: u.
        desirable_weight: w of the chosen images, 0 or above.
        undesirable_weight: w of the rejected images, 0 or above.
    """

    beta: Annotated[float, Gt(0)] = 1000.0
    utility: Literal["sigmoid", "loss_averse", "risk_seeking"] = "sigmoid"
    desirable_weight: Annotated[float, Ge(0)] = 1.0
    undesirable_weight: Annotated[float, Ge(0)] = 1.0

    couples_pairs = True

    @property
    def reward_scale(self) -> float:
        """Factor from log-ratio to reward: 2 beta, because a log-ratio is half a difference of errors."""
        return 2 * self.beta

    def __call__(self, scores: PairScores) -> Tensor:
        """The mean loss of the pair's two images, (B,); `scores` hold the whole step."""
        chosen, rejected = -squared_error(scores.chosen_logratio), -squared_error(scores.rejected_logratio)
        anchor = torch.cat([chosen, rejected]).mean().clamp(min=0).detach()
        gain = self.desirable_weight * (1 - self.utility_of(self.beta * (chosen - anchor)))
        loss = self.undesirable_weight * (1 - self.utility_of(self.beta * (anchor - rejected)))
        return (gain + loss) / 2

    def utility_of(self, reward: Tensor) -> Tensor:
        """The utility u of rewards, of any shape."""
        if self.utility == "sigmoid":
            return torch.sigmoid(reward)
        if self.utility == "loss_averse":
            return functional.logsigmoid(reward)
        return -functional.logsigmoid(-reward)
