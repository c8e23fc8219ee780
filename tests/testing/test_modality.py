"""The modality's contract holds for the toy, and each check fails for a modality that breaks its rule."""

# ruff: noqa: D102 - the docstring of each broken modality says what its one method does wrong

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from dpoframe import Example, Measure, Modality, Request, Sample, Scores, generator
from dpoframe.testing import ModalityContract, ToyModality, toy_pairs

PAIRS = toy_pairs(6)


class TestToy(ModalityContract):
    modality = ToyModality()
    pairs = PAIRS


class TestToyAdapter(ModalityContract):
    modality = ToyModality(adapter=True, dropout=0.5)
    pairs = PAIRS


@dataclass(frozen=True)
class BatchMean(ToyModality):
    """Normalises over the batch."""

    def score(self, model: nn.Module, batch: Any) -> Scores:
        scores = super().score(model, batch)
        return replace(scores, value=scores.value - scores.value.mean())


@dataclass(frozen=True)
class GlobalNoise(ToyModality):
    """Draws from torch's global state."""

    def collate(self, examples: Sequence[Example]) -> Any:
        batch = super().collate(examples)
        return {**batch, "prompt": batch["prompt"] + torch.rand(len(examples), 1)}


@dataclass(frozen=True)
class SeededNoise(ToyModality):
    """Draws from each example's seed, and does not say so."""

    def collate(self, examples: Sequence[Example]) -> Any:
        batch = super().collate(examples)
        noise = [torch.rand(1, generator=generator(example.seed)) for example in examples]
        return {**batch, "prompt": batch["prompt"] + torch.stack(noise)}


class SaidNoise(SeededNoise):
    """Draws from each example's seed, and says so."""

    stochastic: ClassVar[bool] = True


class TestStochastic(ModalityContract):
    modality = SaidNoise()
    pairs = PAIRS


@dataclass(frozen=True)
class PythonNoise(ToyModality):
    """Draws from Python's global state."""

    def collate(self, examples: Sequence[Example]) -> Any:
        random.random()
        return super().collate(examples)


@dataclass(frozen=True)
class Sorted(ToyModality):
    """Forgets the order."""

    def score(self, model: nn.Module, batch: Any) -> Scores:
        scores = super().score(model, batch)
        return replace(scores, value=scores.value.sort().values)


@dataclass(frozen=True)
class Total(ToyModality):
    """Sums over the batch."""

    def score(self, model: nn.Module, batch: Any) -> Scores:
        return replace(super().score(model, batch), length=torch.zeros(1))


@dataclass(frozen=True)
class Detached(ToyModality):
    """Cuts the graph of half of the parameters."""

    def build(self) -> nn.Module:
        model = super().build()
        model.spare = nn.Parameter(torch.zeros(1))
        return model


@dataclass(frozen=True)
class WrongHint(ToyModality):
    """Scores otherwise where there is a hint."""

    def score_with_hint(self, model: nn.Module, batch: Any, hint: Any) -> Scores:
        scores = self.score(model, batch)
        return replace(scores, value=scores.value * 1.5)


@dataclass(frozen=True)
class NeedsModel(ToyModality):
    """Builds a model to collate."""

    def collate(self, examples: Sequence[Example]) -> Any:
        self.build()
        return super().collate(examples)


class Opaque:
    """Hides a tensor from Lightning."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch


@dataclass(frozen=True)
class OpaqueBatch(ToyModality):
    """Makes batches of a class of its own."""

    def collate(self, examples: Sequence[Example]) -> Any:
        return Opaque(super().collate(examples))

    def score(self, model: nn.Module, batch: Any) -> Scores:
        return super().score(model, batch.batch)


@dataclass(frozen=True)
class Forgetful(ToyModality):
    """Loads fresh weights, in training mode."""

    def load(self, folder: Path) -> nn.Module:
        return replace(self, init_seed=9).build().eval()


@dataclass(frozen=True)
class SeededMeasure(ToyModality):
    """Digests the response alone for the whole example."""

    def measure(self, example: Example) -> Measure:
        return Measure(0, 1, "same", "same")


@dataclass(frozen=True)
class NoDetail(ToyModality):
    """Promises a detail it does not give."""

    provides: ClassVar[frozenset[str]] = frozenset({"wpo"})

    def with_details(self, names: frozenset[str]) -> Modality:
        return self


@dataclass(frozen=True)
class TuplePrint(ToyModality):
    """A fingerprint that JSON changes."""

    def fingerprint(self) -> dict[str, Any]:
        return {"a": (1, 2)}


@dataclass(frozen=True)
class Chatty(ToyModality):
    """Answers depend on how many were asked."""

    def generate(self, model: nn.Module, requests: Sequence[Request]) -> Iterator[Sample]:
        return (Sample(request.id, request.prompt, str(len(requests))) for request in requests)


@dataclass(frozen=True)
class Stateful(ToyModality):
    """Counts calls in a buffer."""

    def score(self, model: nn.Module, batch: Any) -> Scores:
        model.head.bias.data += 1e-3 * torch.arange(len(model.head.bias))
        return super().score(model, batch)


@dataclass(frozen=True)
class HoldsObject(ToyModality):
    """A field that no recipe can hold."""

    hook: Any = print


@pytest.mark.parametrize(
    ("part", "check"),
    [
        (BatchMean(), "batch_size_does_not_matter"),
        (GlobalNoise(), "same_seed_same_score"),
        (SeededNoise(), "dependence_on_the_seed_is_said"),
        (GlobalNoise(), "identical_responses_score_alike"),
        (GlobalNoise(), "score_is_pure"),
        (PythonNoise(), "score_is_pure"),
        (Stateful(), "score_is_pure"),
        (Sorted(), "order_does_not_matter"),
        (Total(), "scores_one_finite_number_an_example"),
        (Detached(), "gradients_reach_what_is_trainable"),
        (WrongHint(), "score_with_hint_agrees"),
        (NeedsModel(), "collate_needs_no_model"),
        (OpaqueBatch(), "batch_travels"),
        (Forgetful(), "save_and_load_keep_scores"),
        (SeededMeasure(), "measure_is_consistent"),
        (NoDetail(), "details_can_be_switched_on"),
        (TuplePrint(), "fingerprint_is_plain"),
        (Chatty(), "generation_repeats_itself"),
        (HoldsObject(), "fields_survive_a_recipe"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_modality_checks_fail(part: Modality, check: str, failed: Any) -> None:
    """Each check of the modality's contract fails for a modality that breaks its rule."""
    assert check in failed(ModalityContract, modality=part, pairs=PAIRS)
