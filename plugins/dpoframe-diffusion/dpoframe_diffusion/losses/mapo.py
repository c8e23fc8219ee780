"""MaPO: alignment without a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor
from torch.nn import functional

from dpoframe import Loss, PairScores
from dpoframe_diffusion.losses.errors import squared_error


@dataclass(frozen=True)
class Mapo(Loss):
    """Margin-aware preference optimization (Hong et al., arXiv 2406.06424): MSE_w - beta LS(T (f(MSE_w) - f(MSE_l))).

    f(x) = s x / (e^(s x) - 1) falls from 1 at x = 0, so the second term wants the winner's error below the loser's; the first
    keeps the winner likely. No reference is read: it costs one model. As a reward, metrics show T f(MSE).

    Attributes:
        beta: Weight of the margin, above 0; the authors' code has 0.1.
        snr: s, the slope of f, above 0; the authors' code has 0.5.
        timesteps: T, the number of timesteps the model was trained with, above 0.
    """

    beta: Annotated[float, Gt(0)] = 0.1
    snr: Annotated[float, Gt(0)] = 0.5
    timesteps: Annotated[float, Gt(0)] = 1000.0

    uses_reference = False

    def __call__(self, scores: PairScores) -> Tensor:
        """MSE_w - beta LS(T (f(MSE_w) - f(MSE_l))), (B,)."""
        chosen, rejected = self.rewards(scores)
        return squared_error(scores.policy_chosen) - self.beta * functional.logsigmoid(chosen - rejected)

    def rewards(self, scores: PairScores) -> tuple[Tensor, Tensor]:
        """(B,) T f(MSE_w) and (B,) T f(MSE_l)."""
        chosen, rejected = (
            self.timesteps * _falling(self.snr * squared_error(value)) for value in (scores.policy_chosen, scores.policy_rejected)
        )
        return chosen, rejected


def _falling(scaled: Tensor) -> Tensor:
    """(B,) z / (e^z - 1) of z (B,) at or above 0, with its derivative: written so that neither end overflows or divides by 0."""
    near = scaled < 1e-4
    safe = torch.where(near, torch.ones_like(scaled), scaled)
    series = 1 - scaled / 2 + scaled.square() / 12  # the next term, z^4 / 720, is below the rounding of float64
    return torch.where(near, series, safe * torch.exp(-safe) / -torch.expm1(-safe))
