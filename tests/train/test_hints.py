"""The derivative that a modality is told beforehand: right where it is given, and given only where it can be right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from dpoframe import Loss, PairScores, Scores, hookimpl
from dpoframe.modality import GradientHint
from dpoframe.testing.toy import ToyModality
from dpoframe.train import step


@dataclass(frozen=True)
class Asking(ToyModality):
    """Asks for the hint of every micro-batch, and compares it with the true derivative in the backward."""

    asked: ClassVar[list[int]] = []

    def score_with_hint(self, model: nn.Module, batch: Mapping[str, Tensor], hint: GradientHint) -> Scores:
        """Scores that check their own gradient."""
        scores = self.score(model, batch)
        told = hint(scores.value.detach(), torch.arange(len(scores.value)))

        def compare(gradient: Tensor) -> None:
            factor = gradient.abs().sum() / told.abs().sum()
            torch.testing.assert_close(gradient, factor * told, rtol=1e-9, atol=1e-12)
            self.asked.append(len(told))

        scores.value.register_hook(compare)
        return scores


@dataclass(frozen=True)
class Entropic(Loss):
    """Reads a detail of the modality, which a hint has no values of."""

    @property
    def requires(self) -> frozenset[str]:
        """The entropy."""
        return frozenset({"entropy"})

    def __call__(self, scores: PairScores) -> Tensor:
        """(B,) the hinge, times the entropy."""
        margin = scores.chosen_logratio - scores.rejected_logratio
        return torch.relu(1 - margin) * scores.detail["policy_chosen/entropy"].detach()


@dataclass(frozen=True)
class ChosenAgainstMean(Loss):
    """Couples pairs and never looks at the rejected response."""

    couples_pairs = True

    def __call__(self, scores: PairScores) -> Tensor:
        """(B,) squares of the chosen log-ratio's distance from the step's mean, less one."""
        return (scores.chosen_logratio - scores.chosen_logratio.detach().mean() - 1).square()


class Parts:
    """The plugin of these parts; with `terms` it adds one to the loss."""

    @hookimpl
    def dpoframe_modalities(self) -> Mapping[str, Any]:
        """The one that asks."""
        return {"asking": Asking}

    @hookimpl
    def dpoframe_losses(self) -> Mapping[str, Any]:
        """Both losses."""
        return {"entropic": Entropic, "chosen_against_mean": ChosenAgainstMean}


class Terms:
    """A plugin that pulls the chosen scores up."""

    @hookimpl
    def dpoframe_loss_terms(self, scores: PairScores, stage: str, step: int) -> dict[str, Tensor]:
        """The mean chosen score, a tenth of it."""
        return {"likelihood": -0.1 * scores.policy_chosen.mean()}


@pytest.mark.parametrize(
    ("loss", "plugins", "hinted"),
    [
        ("sigmoid", "[toy, parts, asking]", True),
        ("ipo", "[toy, parts, asking]", True),
        ("bco_pair", "[toy, parts, asking]", True),
        ("aot", "[toy, parts, asking]", True),
        ("chosen_against_mean", "[toy, parts, asking]", True),
        ("entropic", "[toy, parts, asking]", False),
        ("sigmoid", "[toy, parts, asking, terms]", False),
    ],
)
def test_a_hint_is_right_or_absent(
    loss: str, plugins: str, hinted: bool, host: Any, run: Any, look: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hint is the loss's derivative up to a factor; a loss that reads details, or terms of plugins, get none."""
    monkeypatch.setattr(Asking, "asked", [])
    monkeypatch.setattr(Asking, "measure", host.get("modality", "measured").measure)
    host.register(Parts(), "asking")
    host.register(Terms(), "terms")
    result = run("run", "trainer.accumulate_grad_batches=4", f"plugins={plugins}", modality={"name": "asking"}, loss={"name": loss})
    assert len(look.rows(result)) == 3
    assert Asking.asked == ([4] * 12 if hinted else [])


def test_a_side_without_derivative_counts_as_zero() -> None:
    """The hint of a loss that reads one side alone covers both sides."""
    hint = step.hint_from_gradients({"policy_chosen": torch.tensor([1.0, 2.0])})
    assert hint(torch.zeros(4), torch.tensor([0, 1, 2, 3])).tolist() == [1, 2, 0, 0]


def test_a_hint_of_weighted_pairs_has_their_weights() -> None:
    """The derivative of pair b is multiplied by its weight, whatever the order of the index."""
    from dpoframe import losses

    pairs: Any = SimpleNamespace(weight=torch.tensor([1.0, 3.0]), lengths=torch.tensor([2, 2, 2, 2]))
    hint = step.hint_from_loss(losses.create("hinge", beta=0.5), pairs, None, {})
    assert hint(torch.zeros(4), torch.tensor([3, 0, 1, 2])).tolist() == [1.5, -0.5, -1.5, 0.5]
