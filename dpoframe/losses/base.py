"""What the losses of this package share, and the modifiers that change what they compare or how much a pair counts.

Notation in all docstrings here: y+ is the chosen and y- the rejected response, |y| its length in tokens (units of the
modality), c = log pi(y+) - log ref(y+), r = log pi(y-) - log ref(y-), D = c - r, s the logistic function, LS = log s.

A length of 0 counts as 1 wherever a loss divides by it: an empty response sums to 0, so its mean is 0.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Literal, TypeAlias

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional

from dpoframe.errors import ConfigError
from dpoframe.loss import Loss
from dpoframe.losses.parameters import Share, check
from dpoframe.types import PairScores

DivergenceName: TypeAlias = Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"]


def bounded_exponent(exponent: Tensor) -> Tensor:
    """`exponent` cut off where exp() of it, squared, would leave the range of its type; no gradient beyond."""
    return exponent.clamp(max=math.log(torch.finfo(exponent.dtype).max) / 2 - math.log(8))


def mean_over_length(value: Tensor, length: Tensor) -> Tensor:
    """(B,) `value` a unit of `length`; lengths below 1 count as 1."""
    return value / length.clamp(min=1)


def smoothed(margin: Tensor, smoothing: float) -> Tensor:
    """(B,) cross-entropy of the preference `s(margin)` with the label 1 - `smoothing`."""
    if smoothing == 0:  # keeps 0 * infinity out of half precision
        return -functional.logsigmoid(margin)
    return -(1 - smoothing) * functional.logsigmoid(margin) - smoothing * functional.logsigmoid(-margin)


def detail(scores: PairScores, key: str) -> Tensor:
    """The named entry of `scores.detail`; ConfigError where the scores came without it."""
    if key not in scores.detail:
        given = ", ".join(sorted(scores.detail)) or "nothing"
        raise ConfigError(
            f"The loss needs scores.detail[{key!r}], but the scores carry {given}. Loss.requires and Loss.mismatched "
            "say what a loss needs; switch details on with modality.with_details(loss.requires)."
        )
    return scores.detail[key]


@dataclass(frozen=True, kw_only=True)
class PairLoss(Loss):
    """A loss of this package: parameters are checked when it is made; modifiers act before and after `pairs`."""

    def __post_init__(self) -> None:
        check(type(self), type(self).__name__, {field.name: getattr(self, field.name) for field in fields(self)})

    def __call__(self, scores: PairScores) -> Tensor:
        """The loss of each pair, (B,)."""
        return self.weigh(self.pairs(self.adjust(scores)), scores)

    @abstractmethod
    def pairs(self, scores: PairScores) -> Tensor:
        """The loss of each pair, (B,), before any weight, from adjusted scores."""

    def adjust(self, scores: PairScores) -> PairScores:
        """The scores that the loss compares."""
        return scores

    def weigh(self, losses: Tensor, scores: PairScores) -> Tensor:
        """(B,) `losses` times what each pair counts."""
        return losses

    def ratios(self, scores: PairScores) -> tuple[Tensor, Tensor]:
        """(B,) c and (B,) r of adjusted scores."""
        return scores.chosen_logratio, scores.rejected_logratio

    def rewards(self, scores: PairScores) -> tuple[Tensor, Tensor]:
        """(B,) rewards of the chosen and of the rejected responses as this loss sees them, modifiers included."""
        return self.rewards_of(self.adjust(scores))

    def rewards_of(self, scores: PairScores) -> tuple[Tensor, Tensor]:
        """(B,) beta c and (B,) beta r of adjusted scores."""
        chosen, rejected = self.ratios(scores)
        return self.reward_scale * chosen, self.reward_scale * rejected


@dataclass(frozen=True, kw_only=True)
class LengthDesensitized(PairLoss):
    """LD-DPO (arXiv 2409.06411): tokens beyond the shorter response of the pair count `ld_alpha` times.

    log p'(y) = log p(y[:m]) + ld_alpha * log p(y[m:]), m = min(|y+|, |y-|), for policy and reference. Lengths that a
    loss divides by stay those of the whole responses.

    Attributes:
        ld_alpha: From 0 (the longer tail is ignored) to 1 (nothing changes); None switches the modifier off. Needs
            the detail `shared`.
    """

    ld_alpha: Share | None = None

    @property
    def requires(self) -> frozenset[str]:
        """The details the modality must provide."""
        return super().requires | ({"shared"} if self.ld_alpha is not None else frozenset())

    def adjust(self, scores: PairScores) -> PairScores:
        """The scores with the tail of the longer response scaled."""
        scores = super().adjust(scores)
        if self.ld_alpha is None:
            return scores
        changed = {}
        for who in ("policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected"):
            shared = detail(scores, f"{who}/shared")
            changed[who] = shared + self.ld_alpha * (getattr(scores, who) - shared)
        return scores.replace(**changed)


@dataclass(frozen=True, kw_only=True)
class Weighted(PairLoss):
    """WPO (arXiv 2406.11827): pairs that the policy would hardly write itself count less.

    The loss of a pair is multiplied by w(y+) w(y-), w(y) = exp(mean over tokens of [log pi_t - log sum_v p_v^2]),
    without gradient.

    Attributes:
        wpo: Switches the weighting on. Needs the detail `wpo`, which is that mean.
    """

    wpo: bool = False

    @property
    def requires(self) -> frozenset[str]:
        """The details the modality must provide."""
        return super().requires | ({"wpo"} if self.wpo else frozenset())

    def weigh(self, losses: Tensor, scores: PairScores) -> Tensor:
        """(B,) `losses` times w(y+) w(y-)."""
        losses = super().weigh(losses, scores)
        if not self.wpo:
            return losses
        exponent = detail(scores, "policy_chosen/wpo") + detail(scores, "policy_rejected/wpo")
        return losses * bounded_exponent(exponent.detach().to(losses)).exp()


def _forward_kl(logratio: Tensor, alpha: float) -> Tensor:
    return -torch.expm1(bounded_exponent(-logratio))


def _js(logratio: Tensor, alpha: float) -> Tensor:
    return math.log(2) + functional.logsigmoid(logratio)


def _alpha(logratio: Tensor, alpha: float) -> Tensor:
    if alpha == 1:
        return logratio
    return torch.expm1(bounded_exponent((alpha - 1) * logratio)) / (alpha - 1)


_DIVERGENCES: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "reverse_kl": lambda logratio, alpha: logratio,
    "forward_kl": _forward_kl,
    "js_divergence": _js,
    "alpha_divergence": _alpha,
}


@dataclass(frozen=True, kw_only=True)
class Divergent(PairLoss):
    """f-DPO (arXiv 2309.16240): c and r are replaced by f'(e^c) and f'(e^r), which changes the divergence DPO bounds.

    reverse_kl: u (plain DPO). forward_kl: 1 - e^-u. js_divergence: log 2 + LS(u).
    alpha_divergence: (e^((a-1)u) - 1) / (a-1), which is u at a = 1 and forward_kl at a = 0.
    Exponents are cut off before they overflow; beyond that a log-ratio has no gradient.

    Attributes:
        f_divergence: One of the four names.
        f_alpha: a of `alpha_divergence`, 0 or above; the paper uses values between 0 and 1.
    """

    f_divergence: DivergenceName = "reverse_kl"
    f_alpha: Annotated[float, Ge(0)] = 0.5

    def ratios(self, scores: PairScores) -> tuple[Tensor, Tensor]:
        """(B,) f' of the chosen and of the rejected probability ratio."""
        chosen, rejected = super().ratios(scores)
        derivative = _DIVERGENCES[self.f_divergence]
        return derivative(chosen, self.f_alpha), derivative(rejected, self.f_alpha)
