"""The contracts hold for correct parts, and each check fails for a part that breaks its rule."""

# ruff: noqa: D102 - the docstring of each broken part says what its one method does wrong

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from dpoframe import (
    Evaluator,
    EvaluatorSpec,
    Example,
    Loss,
    Measure,
    Modality,
    PairScores,
    PreferencePair,
    Refused,
    Reporter,
    ReporterSession,
    Request,
    RunInfo,
    Sample,
    Scale,
    Scores,
)
from dpoframe.testing import (
    DatasetContract,
    EvaluatorContract,
    LossContract,
    ModalityContract,
    ReporterContract,
    ToyLoss,
    ToyModality,
    toy_pairs,
)
from dpoframe.testing.contract import Contract
from dpoframe.testing.tensors import tensors_in
from dpoframe.testing.toy import toy_dataset

PAIRS = toy_pairs(6)


class TestToy(ModalityContract):
    modality = ToyModality()
    pairs = PAIRS


class TestToyAdapter(ModalityContract):
    modality = ToyModality(adapter=True, dropout=0.5)
    pairs = PAIRS


class TestToyLoss(LossContract):
    loss = ToyLoss()


class TestToyDataset(DatasetContract):
    dataset = staticmethod(toy_dataset)
    options: ClassVar[Mapping[str, Any]] = {"count": 12}


def failed(contract: type[Contract], **attributes: Any) -> set[str]:
    """The names, without `test_`, of the checks that fail for a part."""
    bound = type("Checked", (contract,), attributes)
    return {outcome.check.name.removeprefix("test_") for outcome in bound.run() if outcome.status == "failed"}


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
def test_modality_checks_fail(part: Modality, check: str) -> None:
    """Each check of the modality's contract fails for a modality that breaks its rule."""
    assert check in failed(ModalityContract, modality=part, pairs=PAIRS)


@dataclass(frozen=True)
class PlainLoss(Loss):
    """A loss given as a function in a class attribute of a subclass."""

    def __call__(self, scores: PairScores) -> Tensor:
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
def test_loss_checks_fail(part: Loss, check: str) -> None:
    """Each check of the loss's contract fails for a loss that breaks its rule."""
    assert check in failed(LossContract, loss=part)


SPEC = EvaluatorSpec("one/1", "1", "response", {"rate": Scale(0, 1)}, "rate")


def evaluator_of(score: Any, spec: Any = SPEC, **methods: Any) -> Evaluator:
    """An evaluator instance with a score function."""
    kind: Any = type("PlainEvaluator", (Evaluator,), {"score": lambda self, sample: score(sample), "spec": spec, **methods})
    return dataclass(frozen=True)(kind)()


@pytest.mark.parametrize(
    ("part", "check"),
    [
        (evaluator_of(lambda s: {"rate": 1.0}, spec=None), "spec_is_whole"),
        (evaluator_of(lambda s: {"rate": 1.0}, spec=replace(SPEC, primary="other")), "spec_is_whole"),
        (evaluator_of(lambda s: {"rate": 2.0}), "scores_what_the_spec_names"),
        (evaluator_of(lambda s: {"rate": float("nan")}), "scores_what_the_spec_names"),
        (evaluator_of(lambda s: {"rote": 1.0}), "scores_what_the_spec_names"),
        (evaluator_of(lambda s: None), "scores_something"),
        (evaluator_of(lambda s: {"rate": random.random()}), "repeats_itself"),
        (evaluator_of(lambda s: {"rate": 1.0}, probe=lambda self: True), "probe_answers"),
        (evaluator_of(lambda s: {"rate": 1.0}, probe=lambda self: Refused("no GPU", "")), "probe_answers"),
    ],
)
def test_evaluator_checks_fail(part: Evaluator, check: str) -> None:
    """Each check of the evaluator's contract fails for an evaluator that breaks its rule."""
    assert check in failed(EvaluatorContract, evaluator=part)


def test_evaluator_that_refuses_is_skipped() -> None:
    """Scores are not asked of an evaluator that cannot run here: those checks are skipped with its reason."""
    part = evaluator_of(lambda s: 1 / 0, probe=lambda self: Refused("no GPU", "buy one"))
    outcomes = {one.check.name: one for one in type("Checked", (EvaluatorContract,), {"evaluator": part}).run()}
    assert outcomes["test_scores_something"].status == "skipped"
    assert "no GPU" in outcomes["test_scores_something"].message


class Session(ReporterSession):
    """Prints, and needs a loss in every row."""

    def log(self, row: Mapping[str, Any]) -> None:
        sys.stdout.write(json.dumps(row, allow_nan=False))


def reporter_of(start: Any) -> Reporter:
    """A reporter instance with a start function."""
    kind: Any = type("PlainReporter", (Reporter,), {"start": lambda self, run: start(run)})
    return dataclass(frozen=True)(kind)()


SHARED = ReporterSession()


@pytest.mark.parametrize(
    ("start", "check"),
    [
        (lambda run: Session(), "lives_through_a_run"),
        (lambda run: None, "lives_through_a_run"),
        (lambda run: None, "ends_in_every_way"),
        (lambda run: SHARED, "runs_do_not_mix"),
        (lambda run: sys.stdout.write("hello") and ReporterSession(), "keeps_stdout_clean"),
    ],
)
def test_reporter_checks_fail(start: Any, check: str) -> None:
    """Each check of the reporter's contract fails for a reporter that breaks its rule."""
    assert check in failed(ReporterContract, reporter=reporter_of(start))


def test_reporter_that_does_nothing_passes() -> None:
    """Every method of a session may be left out."""

    def start(run: RunInfo) -> ReporterSession:
        return ReporterSession()

    assert failed(ReporterContract, reporter=reporter_of(start)) <= {"pickles"}


GOOD = PreferencePair("q", "good", "bad")


@pytest.mark.parametrize(
    ("dataset", "check"),
    [
        (lambda path="": [GOOD], "parameters_are_recipe_keys"),
        (lambda *paths: [GOOD], "parameters_are_recipe_keys"),
        (lambda: [], "yields_pairs"),
        (lambda: [GOOD, None], "yields_pairs"),
        (lambda: [PreferencePair("q", "good", "")], "contents_are_of_known_types"),
        (lambda: [PreferencePair("q", "good", [{"text": "bad"}])], "contents_are_of_known_types"),  # type: ignore[list-item]
        (lambda: [PreferencePair("q", "same", "same")], "pairs_compare_something"),
        (lambda: [PreferencePair("q", "good", "bad", weight=0.0)], "pairs_compare_something"),
        (lambda: [GOOD, GOOD], "ids_are_unique"),
        (lambda: [PreferencePair("q", str(random.random()), "bad")], "repeats_itself"),
    ],
)
def test_dataset_checks_fail(dataset: Any, check: str) -> None:
    """Each check of the data set's contract fails for a data set that breaks its rule."""
    assert check in failed(DatasetContract, dataset=staticmethod(dataset))


@pytest.mark.parametrize("contract", [ModalityContract, DatasetContract, LossContract, EvaluatorContract, ReporterContract])
def test_every_check_says_what_must_hold_and_what_to_look_at(contract: type[Contract]) -> None:
    """Each check's docstring has a rule and an `If this fails:` note."""
    checks = contract.checks()
    assert len(checks) >= 6
    assert all(check.rule.endswith(".") and check.remedy.endswith(".") for check in checks)


def test_tensors_are_found_anywhere() -> None:
    """Tensors inside objects that Lightning does not look into are found."""
    value = {"a": [torch.zeros(1)], "b": Opaque((torch.ones(2), 3))}
    assert sorted(tensor.numel() for tensor in tensors_in(value)) == [1, 2]


def test_toy_learns() -> None:
    """Some steps of DPO on the toy pairs raise the accuracy of pairs it never saw."""
    modality, seen, unseen = ToyModality(), toy_pairs(32), toy_pairs(32, seed=5)
    model = modality.build()

    def margins(pairs: list[PreferencePair]) -> Tensor:
        examples = [
            Example(pair.prompt, text, 0, pair.id)
            for side in ("chosen", "rejected")
            for pair in pairs
            if (text := getattr(pair, side))
        ]
        chosen, rejected = modality.score(model, modality.collate(examples)).value.chunk(2)
        return chosen - rejected

    start, before = margins(seen).detach(), margins(unseen).detach()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(30):
        optimizer.zero_grad()
        torch.autograd.backward(-nn.functional.logsigmoid(0.1 * (margins(seen) - start)).mean())
        optimizer.step()
    assert (margins(unseen) - before > 0).float().mean() > 0.9
