"""HS-DPO: pairs that the model got wrong before count more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor
from torch.nn import functional

from dpoframe import Loss, PairScores


@dataclass(frozen=True)
class HsDpo(Loss):
    """Hard-sample DPO (GuardReasoner, Liu et al. 2025, arXiv 2501.18492): -alpha LS(beta D), LS = log sigmoid.

    D = (log pi(y+) - log ref(y+)) - (log pi(y-) - log ref(y-)). In the paper the supervised model answers a text k = 4 times; texts
    that it answers both rightly and wrongly are kept, and alpha = 1 + Norm(k_wrong - k_right), where Norm maps the range of the
    kept texts, -(k - 2) to k - 2, linearly to -gamma to gamma. The authors' code has gamma = 0.2 and beta = 0.01.

    Here nothing is drawn: the reference gives the chance q = s(log ref(y-) - log ref(y+)) that the wrong one of the two answers
    would be, s the logistic function, and alpha is what the paper's would be on average over draws:

        draws None (k without limit):  alpha = 1 + gamma (2 q - 1)
        draws k:                       alpha = 1 - q^k - p^k + gamma k/(k-2) (2 q - 1 - q^k + p^k),  p = 1 - q

    so that with `draws` a pair on which k answers would hardly differ hardly counts. alpha has no gradient. The reference must be
    a model that was trained for the task already; of a fresh head q is near 1/2, and all pairs count alike. Counts of answers that
    really were drawn belong into the pairs' own `weight`, with the loss `sigmoid`.

    Attributes:
        beta: Strength of the tie to the reference, a reward per nat, above 0.
        gamma: How far the weight of the hardest pair is above 1, and of the easiest below; from 0 to below 1.
        draws: k, 3 or more; None for the weight alone, all pairs kept.
    """

    beta: Annotated[float, Gt(0)] = 0.1
    gamma: Annotated[float, Ge(0), Lt(1)] = 0.2
    draws: Annotated[int, Ge(3)] | None = None

    def __call__(self, scores: PairScores) -> Tensor:
        """-alpha LS(beta D), (B,)."""
        margin = self.beta * (scores.chosen_logratio - scores.rejected_logratio)
        return -self.weight(scores.reference_rejected - scores.reference_chosen) * functional.logsigmoid(margin)

    def weight(self, odds: Tensor) -> Tensor:
        """(B,) alpha of the log-odds (B,) by which the reference prefers the wrong answer; without gradient."""
        odds = odds.detach()
        lean = torch.tanh(odds / 2)  # 2 q - 1
        if self.draws is None:
            return 1 + self.gamma * lean
        k = self.draws
        wrong, right = (torch.exp(k * functional.logsigmoid(sign * odds)) for sign in (1, -1))
        # Rounding may leave less than nothing of a pair whose answers never differ.
        return (1 - wrong - right + self.gamma * k / (k - 2) * (lean - wrong + right)).clamp(min=0)
