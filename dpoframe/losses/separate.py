"""Losses that judge the chosen and the rejected response each on its own. Notation: see `dpoframe.losses.base`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dpoframe.losses.base import LengthDesensitized, PairLoss, Weighted, detail
from dpoframe.losses.parameters import NotNegative, Positive
from dpoframe.types import PairScores


@dataclass(frozen=True, kw_only=True)
class Separate(LengthDesensitized, Weighted):
    """A loss of beta c and beta r, with the modifiers `ld_alpha` and `wpo`."""

    beta: Positive = 0.1


@dataclass(frozen=True, kw_only=True)
class NcaPair(Separate):
    """NCA for pairs (arXiv 2402.05369): -LS(beta c) - LS(-beta c)/2 - LS(-beta r)/2.

    Attributes:
        beta: A reward per nat, above 0.
    """

    def pairs(self, scores: PairScores) -> Tensor:
        """-LS(beta c) - LS(-beta c)/2 - LS(-beta r)/2, (B,)."""
        chosen, rejected = self.rewards_of(scores)
        noise = functional.logsigmoid(-chosen) + functional.logsigmoid(-rejected)
        return -functional.logsigmoid(chosen) - noise / 2


@dataclass(frozen=True, kw_only=True)
class BcoPair(Separate):
    """BCO for pairs (arXiv 2404.04656): -LS(beta c - d) - LS(-(beta r - d)).

    d is the mean reward (beta c and beta r together) over all optimizer steps before this one, kept in the state
    `mean` and `count`. At the first step, without a state, it is 0, the rewards' value where policy = reference: a mean
    over the pairs at hand would make the step depend on how it is split. It has no gradient.

    Attributes:
        beta: A reward per nat, above 0.
    """

    def pairs(self, scores: PairScores) -> Tensor:
        """-LS(beta c - d) - LS(-(beta r - d)), (B,)."""
        chosen, rejected = self.rewards_of(scores)
        shift = scores.detail.get("state/mean", chosen.new_zeros(())).to(chosen)
        return -functional.logsigmoid(chosen - shift) - functional.logsigmoid(shift - rejected)

    def update(self, state: Mapping[str, Tensor], scores: PairScores) -> Mapping[str, Tensor]:
        """The mean reward and the number of pairs behind it, the given whole step included."""
        chosen, rejected = self.rewards(scores)
        mean = _mean(chosen, rejected)
        before = state.get("count", torch.zeros((), dtype=torch.int64, device=mean.device)).to(mean.device)
        count = before + chosen.numel()
        old = state.get("mean", mean).to(mean)
        return {"mean": old + (mean - old) * (chosen.numel() / count), "count": count}


def _mean(chosen: Tensor, rejected: Tensor) -> Tensor:
    return torch.cat([chosen, rejected]).detach().mean()


@dataclass(frozen=True, kw_only=True)
class SppoHard(Separate):
    """SPPO with hard labels (arXiv 2405.00675, equation 4.7 with P = 1 and 0): (c - 1/(2 beta))^2 + (r + 1/(2 beta))^2.

    Attributes:
        beta: Reciprocal of the paper's eta, above 0; c is pulled towards 1/(2 beta) nats and r towards the opposite.
    """

    def pairs(self, scores: PairScores) -> Tensor:
        """(c - 1/(2 beta))^2 + (r + 1/(2 beta))^2, (B,)."""
        chosen, rejected = self.ratios(scores)
        target = 1 / (2 * self.beta)
        return (chosen - target).square() + (rejected + target).square()


@dataclass(frozen=True, kw_only=True)
class ApoZero(Separate):
    """APO-zero (arXiv 2408.06266, equation 7): 1 - s(beta c) + s(beta r).

    Raises the chosen and lowers the rejected response: for chosen responses better than what the model writes.

    Attributes:
        beta: A reward per nat, above 0.
    """

    def pairs(self, scores: PairScores) -> Tensor:
        """1 - s(beta c) + s(beta r), (B,)."""
        chosen, rejected = self.rewards_of(scores)
        return torch.sigmoid(-chosen) + torch.sigmoid(rejected)


@dataclass(frozen=True, kw_only=True)
class ApoDown(Separate):
    """APO-down (arXiv 2408.06266, equation 8): s(beta c) + 1 - s(beta (c - r)).

    Lowers both, the rejected response more: for chosen responses worse than what the model writes.

    Attributes:
        beta: A reward per nat, above 0.
    """

    def pairs(self, scores: PairScores) -> Tensor:
        """s(beta c) + 1 - s(beta (c - r)), (B,)."""
        chosen, rejected = self.rewards_of(scores)
        return torch.sigmoid(chosen) + torch.sigmoid(rejected - chosen)


@dataclass(frozen=True, kw_only=True)
class Kto(PairLoss):
    """KTO (arXiv 2402.01306, equations 7 and 8) on the two responses of a pair.

    [w+ (1 - s(beta (c - z))) + w- (1 - s(beta (z - r)))] / 2, the mean over the pair's two examples, where
    z = max(0, mean over the step of log pi(y') - log ref(y')) and y' is another prompt's chosen response. z has no
    gradient.

    Attributes:
        beta: A reward per nat, above 0.
        desirable_weight: w+, 0 or above.
        undesirable_weight: w-, 0 or above.
    """

    couples_pairs = True
    mismatched = True

    beta: Positive = 0.1
    desirable_weight: NotNegative = 1.0
    undesirable_weight: NotNegative = 1.0

    def pairs(self, scores: PairScores) -> Tensor:
        """The mean loss of the pair's two examples, (B,)."""
        chosen, rejected = self.ratios(scores)
        divergence = (detail(scores, "policy_mismatched") - detail(scores, "reference_mismatched")).detach().mean().clamp(min=0)
        gain = self.desirable_weight * torch.sigmoid(self.beta * (divergence - chosen))
        loss = self.undesirable_weight * torch.sigmoid(self.beta * (rejected - divergence))
        return (gain + loss) / 2
