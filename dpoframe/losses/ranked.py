"""Losses that compare sorted batches instead of pairs. Notation: see `dpoframe.losses.base`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dpoframe.losses.base import LengthDesensitized, smoothed
from dpoframe.losses.parameters import Positive, Smoothing
from dpoframe.types import PairScores


def _against_rank(values: Tensor, others: Tensor) -> Tensor:
    """(B,) each value minus the other of the same rank, in the order of `values`."""
    order = values.argsort(stable=True)
    ranked = torch.empty_like(others).scatter(0, order, others.sort().values)
    return values - ranked


@dataclass(frozen=True, kw_only=True)
class Aot(LengthDesensitized):
    """AOT, paired (arXiv 2406.05882): d = sort(log pi(y+) - log pi(y-)) - sort(log ref(y+) - log ref(y-)), then as `sigmoid`.

    Sorting runs over the whole optimizer step. The loss of a pair is that of the rank its policy margin takes.

    Attributes:
        beta: A reward per nat, above 0.
        label_smoothing: The assumed share of flipped labels, from 0 to below 1/2.
    """

    couples_pairs = True

    beta: Positive = 0.1
    label_smoothing: Smoothing = 0.0

    def pairs(self, scores: PairScores) -> Tensor:
        """The smoothed logistic loss of beta d, (B,)."""
        policy = scores.policy_chosen - scores.policy_rejected
        reference = scores.reference_chosen - scores.reference_rejected
        return smoothed(self.beta * _against_rank(policy, reference), self.label_smoothing)


@dataclass(frozen=True, kw_only=True)
class AotUnpaired(LengthDesensitized):
    """AOT, unpaired (arXiv 2406.05882): d = sort(c) - sort(r), then as `sigmoid`.

    Sorting runs over the whole optimizer step. The loss of a pair is that of the rank its c takes.

    Attributes:
        beta: A reward per nat, above 0.
        label_smoothing: The assumed share of flipped labels, from 0 to below 1/2.
    """

    couples_pairs = True

    beta: Positive = 0.1
    label_smoothing: Smoothing = 0.0

    def pairs(self, scores: PairScores) -> Tensor:
        """The smoothed logistic loss of beta d, (B,)."""
        chosen, rejected = self.ratios(scores)
        return smoothed(self.beta * _against_rank(chosen, rejected), self.label_smoothing)
