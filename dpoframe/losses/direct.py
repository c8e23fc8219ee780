"""Losses of the difference D between chosen and rejected log-ratio. Notation: see `dpoframe.losses.base`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from dpoframe.losses.base import Divergent, LengthDesensitized, Weighted, bounded_exponent, mean_over_length, smoothed
from dpoframe.losses.parameters import NotNegative, OpenSmoothing, Positive, Smoothing
from dpoframe.types import PairScores


@dataclass(frozen=True, kw_only=True)
class Contrast(Divergent, LengthDesensitized, Weighted):
    """A loss of D alone, with every modifier. Subclasses say what becomes of D in `contrast`."""

    beta: Positive = 0.1

    def margin(self, scores: PairScores) -> Tensor:
        """(B,) beta * D."""
        chosen, rejected = self.ratios(scores)
        return self.beta * (chosen - rejected)


@dataclass(frozen=True, kw_only=True)
class Sigmoid(Contrast):
    """DPO: -(1 - e) LS(beta D) - e LS(-beta D).

    DPO is arXiv 2305.18290; with e > 0 it is conservative DPO (Mitchell, "A note on DPO with noisy preferences", 2023).
    At policy = reference the loss is ln 2.

    For diffusion the score of an image is -MSE/2, half the denoising error averaged over the latent, so that
    -LS(beta D) with beta = 5000 is exactly Diffusion-DPO's loss (arXiv 2311.12908) with its beta of 5000:
    -LS(-beta/2 [(MSE+ - MSE+_ref) - (MSE- - MSE-_ref)]).

    Attributes:
        beta: Strength of the tie to the reference, a reward per nat, above 0. Text: 0.01 to 0.5. Diffusion: 2000 to 5000.
        label_smoothing: e, the assumed share of flipped labels, 0 <= e < 1/2.
    """

    label_smoothing: Smoothing = 0.0

    def pairs(self, scores: PairScores) -> Tensor:
        """-(1 - e) LS(beta D) - e LS(-beta D), (B,)."""
        return smoothed(self.margin(scores), self.label_smoothing)


@dataclass(frozen=True, kw_only=True)
class Hinge(Contrast):
    """Hinge: max(0, 1 - beta D) (SLiC, arXiv 2305.10425, on log-ratios as in RSO, arXiv 2309.06657).

    Attributes:
        beta: Reciprocal of the wanted margin, a reward per nat, above 0.
    """

    def pairs(self, scores: PairScores) -> Tensor:
        """max(0, 1 - beta D), (B,)."""
        return torch.relu(1 - self.margin(scores))


@dataclass(frozen=True, kw_only=True)
class Ipo(Contrast):
    """IPO (arXiv 2310.12036, equation 17): (h - 1 / (2 beta))^2.

    With `reduction: mean`, h = c/|y+| - r/|y-|; with `sum`, h = D as in the paper's text. The two want another beta.

    Attributes:
        beta: The paper's tau, above 0; the loss pulls h towards 1 / (2 beta) nats.
        reduction: `mean` (a token) or `sum` (the whole response).
    """

    reduction: Literal["mean", "sum"] = "mean"

    def ratios(self, scores: PairScores) -> tuple[Tensor, Tensor]:
        """(B,) each side's log-ratio, a token where the reduction is `mean`."""
        chosen, rejected = super().ratios(scores)
        if self.reduction == "sum":
            return chosen, rejected
        return mean_over_length(chosen, scores.chosen_length), mean_over_length(rejected, scores.rejected_length)

    def pairs(self, scores: PairScores) -> Tensor:
        """(h - 1 / (2 beta))^2, (B,)."""
        chosen, rejected = self.ratios(scores)
        return (chosen - rejected - 1 / (2 * self.beta)).square()


@dataclass(frozen=True, kw_only=True)
class Robust(Contrast):
    """Robust DPO (arXiv 2403.00409): [-(1 - e) LS(beta D) + e LS(-beta D)] / (1 - 2e).

    Its mean over data of which a share e has flipped labels is DPO's mean over the clean data. It may be negative.

    Attributes:
        beta: A reward per nat, above 0.
        label_smoothing: e, the known share of flipped labels, 0 <= e < 1/2; 0 is plain DPO.
    """

    label_smoothing: Smoothing = 0.0

    def pairs(self, scores: PairScores) -> Tensor:
        """[-(1 - e) LS(beta D) + e LS(-beta D)] / (1 - 2e), (B,)."""
        margin, flipped = self.margin(scores), self.label_smoothing
        clean = -(1 - flipped) * functional.logsigmoid(margin)
        return (clean + flipped * functional.logsigmoid(-margin)) / (1 - 2 * flipped)


@dataclass(frozen=True, kw_only=True)
class ExoPair(Contrast):
    """EXO for pairs (arXiv 2402.00856, equation 16): s(b D) [LS(b D) - log(1 - e)] + s(-b D) [LS(-b D) - log e].

    That is the divergence KL(policy's preference || label), where DPO minimises the one the other way round.

    Attributes:
        beta: b, a reward per nat, above 0.
        label_smoothing: e, the label's probability of the rejected response, 0 < e < 1/2; log e must exist.
    """

    label_smoothing: OpenSmoothing = 1e-3

    def pairs(self, scores: PairScores) -> Tensor:
        """KL of s(beta D) from the smoothed label, (B,)."""
        margin = self.margin(scores)
        chosen = torch.sigmoid(margin) * (functional.logsigmoid(margin) - math.log1p(-self.label_smoothing))
        rejected = torch.sigmoid(-margin) * (functional.logsigmoid(-margin) - math.log(self.label_smoothing))
        return chosen + rejected


@dataclass(frozen=True, kw_only=True)
class Discopop(Contrast):
    """DiscoPOP (arXiv 2406.08414, equation 5): with l = beta D, m = s(l / tau): -LS(l) (1 - m) + e^-l m.

    Attributes:
        beta: A reward per nat, above 0.
        tau: Width of the passage between the two parts, above 0; the paper has 0.05.
    """

    tau: Positive = 0.05

    def pairs(self, scores: PairScores) -> Tensor:
        """-LS(l) (1 - m) + e^-l m, (B,)."""
        margin = self.margin(scores)
        exponential = torch.sigmoid(margin / self.tau)
        logistic = torch.sigmoid(-margin / self.tau)
        return -functional.logsigmoid(margin) * logistic + bounded_exponent(-margin).exp() * exponential


@dataclass(frozen=True, kw_only=True)
class SigmoidNorm(Contrast):
    """Length-normalised DPO (Tulu 3, arXiv 2411.15124): -LS(beta (c/|y+| - r/|y-|)).

    Attributes:
        beta: A reward per nat a token, above 0. Means a token are small: Tulu 3 uses 5.
    """

    beta: Positive = 5.0

    def ratios(self, scores: PairScores) -> tuple[Tensor, Tensor]:
        """(B,) each side's log-ratio a token."""
        chosen, rejected = super().ratios(scores)
        return mean_over_length(chosen, scores.chosen_length), mean_over_length(rejected, scores.rejected_length)

    def pairs(self, scores: PairScores) -> Tensor:
        """-LS(beta (c/|y+| - r/|y-|)), (B,)."""
        return -functional.logsigmoid(self.margin(scores))


@dataclass(frozen=True, kw_only=True)
class Dpop(LengthDesensitized, Weighted):
    """DPO-Positive (Smaug, arXiv 2402.13228): -LS(beta (D - penalty max(0, -c))).

    The second term costs whatever makes the chosen response less likely than under the reference.

    Attributes:
        beta: A reward per nat, above 0; the paper has 0.3.
        penalty: The paper's lambda, 0 or above; the paper has 5 to 500, mostly 50. 0 is plain DPO.
    """

    beta: Positive = 0.3
    penalty: NotNegative = 50.0

    def pairs(self, scores: PairScores) -> Tensor:
        """-LS(beta (D - penalty max(0, -c))), (B,)."""
        chosen, rejected = self.ratios(scores)
        return -functional.logsigmoid(self.beta * (chosen - rejected - self.penalty * torch.relu(-chosen)))
