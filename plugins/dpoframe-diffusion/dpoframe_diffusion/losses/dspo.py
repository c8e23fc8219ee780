"""DSPO: the score of the winner is matched to that of the preferred distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from dpoframe import Loss, PairScores
from dpoframe_diffusion.losses.errors import residual


@dataclass(frozen=True)
class Dspo(Loss):
    """Direct score preference optimization (Zhu, Xiao, Honavar; ICLR 2025), on the winner's latent:

    mean over the latent of [ (e - t) - beta (1 - s(inside)) (e - e_ref) ]^2,
    inside = -beta/2 ((MSE_w - MSEref_w) - (MSE_l - MSEref_l)),

    e and e_ref the predictions of policy and reference, t their target. The gradient flows through s(inside), as in the
    authors' public code for SD1.5 (their code for SDXL minimises something else). At policy = reference the loss is MSE_w.

    The predictions' errors come from the detail `residual` (B, D), e - t of each model, whose mean square is the MSE; with
    weights on the pixels it carries their roots. It lives inside a micro-batch, so the reference is scored live: kind copy or
    adapter.

    Attributes:
        beta: Strength of the pull, above 0 and below 2; the authors search 0.001, 0.01 and 0.05 for SD1.5. It stands before the
            second term as it is, so it is no beta of Diffusion-DPO: at the start, where s(inside) = 1/2, the loss has 1 - beta/2
            times the gradient of MSE_w, which 2 makes 0.
    """  # noqa: D415

    beta: Annotated[float, Gt(0), Lt(2)] = 0.001

    requires = frozenset({"residual"})
    vectors = frozenset({"residual"})

    def __call__(self, scores: PairScores) -> Tensor:
        """The squared distance from the preferred score, averaged over the latent, (B,)."""
        own, reference = residual(scores, "policy_chosen"), residual(scores, "reference_chosen")
        inside = self.beta * (scores.chosen_logratio - scores.rejected_logratio)
        pull = self.beta * torch.sigmoid(-inside)
        return (own - pull.to(own)[:, None] * (own - reference)).square().mean(dim=1)
