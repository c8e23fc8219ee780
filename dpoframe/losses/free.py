"""Losses that read no reference. Notation: see `dpoframe.losses.base`; p+ and p- are log pi(y) a token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dpoframe.losses.base import PairLoss, Weighted, mean_over_length, smoothed
from dpoframe.losses.parameters import NotNegative, Positive, Smoothing
from dpoframe.types import PairScores


def negative_log_likelihood(scores: PairScores) -> Tensor:
    """(B,) -log pi(y+) over the mean length of the step's chosen responses.

    The mean over the step is then the mean over the step's tokens, however the step was split. The mean length comes
    from `step/chosen_length`, without it from the pairs at hand; a step without a single chosen token costs 0.
    """
    own = scores.chosen_length.to(scores.policy_chosen).mean()
    length = scores.detail.get("step/chosen_length", own).to(scores.policy_chosen)
    return -scores.policy_chosen / torch.where(length > 0, length, torch.ones_like(length))


@dataclass(frozen=True, kw_only=True)
class ReferenceFree(PairLoss):
    """A loss of the policy's log-probabilities alone; they take the place of the log-ratios."""

    uses_reference = False

    def ratios(self, scores: PairScores) -> tuple[Tensor, Tensor]:
        """(B,) log pi(y+) and (B,) log pi(y-)."""
        return scores.policy_chosen, scores.policy_rejected


@dataclass(frozen=True, kw_only=True)
class MeanReferenceFree(ReferenceFree):
    """A loss of the policy's mean log-probabilities a token."""

    def ratios(self, scores: PairScores) -> tuple[Tensor, Tensor]:
        """(B,) p+ and (B,) p-."""
        chosen, rejected = super().ratios(scores)
        return mean_over_length(chosen, scores.chosen_length), mean_over_length(rejected, scores.rejected_length)


@dataclass(frozen=True, kw_only=True)
class Sft(ReferenceFree):
    """Supervised fine-tuning on the chosen responses: -log pi(y+) a token, the mean taken over all tokens of the step.

    It has no parameter. As a reward, metrics show log pi(y).
    """

    def pairs(self, scores: PairScores) -> Tensor:
        """-log pi(y+) over the step's mean chosen length, (B,)."""
        return negative_log_likelihood(scores)


@dataclass(frozen=True, kw_only=True)
class Simpo(MeanReferenceFree, Weighted):
    """SimPO (arXiv 2405.14734): -LS(beta (p+ - p-) - gamma), p the mean log-probability a token.

    Attributes:
        beta: A reward per nat a token, above 0; the paper has 2 to 10.
        gamma: The wanted reward margin, 0 or above; the paper has 0.3 to 1.6 at beta 2 to 2.5.
    """

    beta: Positive = 2.0
    gamma: NotNegative = 1.0

    def pairs(self, scores: PairScores) -> Tensor:
        """-LS(beta (p+ - p-) - gamma), (B,)."""
        chosen, rejected = self.rewards_of(scores)
        return -functional.logsigmoid(chosen - rejected - self.gamma)


def _log_odds(mean: Tensor) -> Tensor:
    """log(p / (1 - p)) of log p; a p of 1 counts as the nearest number below, so that the odds stay finite."""
    mean = mean.clamp(max=-torch.finfo(mean.dtype).eps)
    return mean - torch.log(-torch.expm1(mean))


@dataclass(frozen=True, kw_only=True)
class Orpo(MeanReferenceFree, Weighted):
    """ORPO (arXiv 2403.07691, equations 6 and 7): -p+ - beta LS(odds(p+) - odds(p-)), odds(p) = log(e^p / (1 - e^p)).

    p is the mean log-probability a token of the response; the prompt takes no part in the first term.

    Attributes:
        beta: The paper's lambda, weight of the odds ratio, above 0; the paper has 0.1 to 0.25.
    """

    beta: Positive = 0.1

    def pairs(self, scores: PairScores) -> Tensor:
        """-p+ - beta LS(log odds ratio), (B,)."""
        chosen, rejected = self.ratios(scores)
        return -chosen - self.beta * functional.logsigmoid(_log_odds(chosen) - _log_odds(rejected))


@dataclass(frozen=True, kw_only=True)
class Cpo(ReferenceFree, Weighted):
    """CPO (arXiv 2401.08417): the `sigmoid` loss of beta (log pi(y+) - log pi(y-)), plus nll_weight times `sft`.

    The preference term takes sums over the response, the likelihood term the mean over the step's chosen tokens.

    Attributes:
        beta: A reward per nat, above 0.
        label_smoothing: The assumed share of flipped labels, from 0 to below 1/2.
        nll_weight: Weight of the likelihood term, 0 or above.
    """

    beta: Positive = 0.1
    label_smoothing: Smoothing = 0.0
    nll_weight: NotNegative = 1.0

    def pairs(self, scores: PairScores) -> Tensor:
        """The smoothed logistic loss plus the weighted likelihood term, (B,)."""
        chosen, rejected = self.rewards_of(scores)
        return smoothed(chosen - rejected, self.label_smoothing) + self.nll_weight * negative_log_likelihood(scores)
