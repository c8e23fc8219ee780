"""The loss's contract holds for the toy, and each check fails for a loss that breaks its rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from dpoframe import Loss, PairScores
from dpoframe.testing import LossContract, ToyLoss


class TestToyLoss(LossContract):
    loss = ToyLoss()


@dataclass(frozen=True)
class PlainLoss(Loss):
    """A loss given as a function in a class attribute of a subclass."""

    def __call__(self, scores: PairScores) -> Tensor:
        """Its numbers."""
        return self.equation(scores)


def loss_of(equation: Any, **flags: Any) -> Loss:
    """A loss instance whose `__call__` is `equation`."""
    kind: Any = type("PlainLoss", (PlainLoss,), {"equation": staticmethod(equation), **flags})
    return dataclass(frozen=True)(kind)()


def mean_loss(scores: PairScores) -> Tensor:
    """A mean instead of a number a pair."""
    return -scores.chosen_logratio.mean()


@pytest.mark.parametrize(
    ("part", "check"),
    [
        (loss_of(mean_loss), "gives_one_finite_number_a_pair"),
        (loss_of(lambda s: torch.log(1 + torch.exp(s.rejected_logratio - s.chosen_logratio) ** 4)), "is_finite_far_out"),
        (loss_of(lambda s: s.chosen_logratio - s.rejected_logratio), "pulls_the_pair_apart"),
        (loss_of(lambda s: s.policy_chosen.mul_(2) - s.reference_chosen), "is_pure"),
        (loss_of(lambda s: -s.chosen_logratio + s.chosen_logratio.mean() / 2), "pairs_stand_for_themselves"),
        (loss_of(lambda s: -s.policy_chosen), "says_whether_it_reads_the_reference"),
        (loss_of(lambda s: -s.chosen_logratio, uses_reference=False), "says_whether_it_reads_the_reference"),
        (
            loss_of(lambda s: -s.chosen_logratio, update=lambda self, state, scores: {"n": len(state)}),
            "remembers_tensors",
        ),
    ],
)
def test_loss_checks_fail(part: Loss, check: str, failed: Any) -> None:
    """Each check of the loss's contract fails for a loss that breaks its rule."""
    assert check in failed(LossContract, loss=part)
