"""What the evaluator's contract asks beyond one score: whole specs, purity, odd answers, aggregates that can be resampled."""

# ruff: noqa: D102 - the docstring of each broken part says what it does wrong

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest

from dpoframe import Asset, Evaluator, EvaluatorSpec, Media, Sample, Scale, Scored, UnscoredError, as_text
from dpoframe.testing import EvaluatorContract

SPEC = EvaluatorSpec("words/1", "1", "response", {"words": Scale(0)}, "words", aggregates={"median": Scale(0)})


@dataclass(frozen=True)
class Words(Evaluator):
    """Counts words; the figure over all samples is the median."""

    spec: ClassVar[EvaluatorSpec] = SPEC

    def score(self, sample: Sample) -> Mapping[str, float] | None:
        return {"words": float(len(as_text(sample.response).split()))}

    def aggregate(self, scores: Sequence[Scored]) -> Mapping[str, float]:
        return {"median": statistics.median(one.values["words"] for one in scores)}


class TestWords(EvaluatorContract):
    evaluator = Words()


@dataclass(frozen=True)
class Picky(Words):
    """Says why it does not score an answer without words, and leaves out what it does not know."""

    spec: ClassVar[EvaluatorSpec] = replace(SPEC, metrics={"words": Scale(0), "units": Scale(0)}, primary="median")

    def score(self, sample: Sample) -> Mapping[str, float] | None:
        if not as_text(sample.response).split():
            raise UnscoredError("there is no word")
        return super().score(sample)


class TestPicky(EvaluatorContract):
    evaluator = Picky()


@dataclass(frozen=True)
class Batched(Picky):
    """Scores several at once, by the default."""

    def batch_size(self) -> int:
        return 3


class TestBatched(EvaluatorContract):
    evaluator = Batched()


class TestPictures(EvaluatorContract):
    """Odd texts are not put to an evaluator whose samples are no texts."""

    samples: ClassVar[Sequence[Sample]] = (Sample("a", "a red square", Media("image", data=b"red")),)
    evaluator = Words()


def broken(spec: Mapping[str, Any] | None = None, **methods: Any) -> Evaluator:
    """The sound evaluator with parts of its spec or some methods exchanged."""
    kind: Any = type("Broken", (Words,), {"spec": replace(SPEC, **(spec or {})), **methods})
    made: Evaluator = dataclass(frozen=True)(kind)()
    return made


def failed(part: Evaluator) -> set[str]:
    """The names, without `test_`, of the checks that fail for an evaluator."""
    bound = type("Checked", (EvaluatorContract,), {"evaluator": part})
    return {outcome.check.name.removeprefix("test_") for outcome in bound.run() if outcome.status == "failed"}


class Opaque:
    """Has no repr of its own."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque)

    def __hash__(self) -> int:
        return 0


@dataclass(frozen=True)
class Addressed(Words):
    """A field that prints its address."""

    part: Any = field(default_factory=Opaque)


def counting(self: Evaluator, sample: Sample) -> Mapping[str, float]:
    """Depends on what was scored before."""
    CALLS.append(sample.id)
    return {"words": float(CALLS[-2:] == ["c", "d"])}


def sorting(self: Evaluator, sample: Sample) -> Mapping[str, float]:
    """Takes its fact out of the sample."""
    sample.meta.pop("rival", None)  # type: ignore[attr-defined]
    return {"words": 1.0}


def first_of_all(self: Evaluator, scores: Sequence[Scored]) -> Mapping[str, float]:
    """The first sample's value: the order matters."""
    return {"median": scores[0].values["words"]}


def draining(self: Evaluator, scores: Any) -> Mapping[str, float]:
    """Empties the list it is given."""
    while len(scores) > 1:
        scores.pop()
    return {"median": 1.0}


def dividing(self: Evaluator, scores: Sequence[Scored]) -> Mapping[str, float]:
    """A ratio to the number of samples without words, of which a draw may hold none."""
    return {"median": len(scores) / sum(not one.values["words"] for one in scores)}


def padded(self: Evaluator, samples: Sequence[Sample]) -> list[Mapping[str, float]]:
    """Counts every answer as long as the longest of its batch."""
    longest = max(len(as_text(sample.response).split()) for sample in samples)
    return [{"words": float(longest)} for _ in samples]


def batched(score_batch: Any) -> Evaluator:
    """The sound evaluator with a way of its own to score batches."""
    return broken(batch_size=lambda self: 8, score_batch=score_batch)


CALLS: list[str] = []
DRAWN = iter(range(10**6))


@pytest.mark.parametrize(
    ("part", "check"),
    [
        (broken({"limit": 0.0}), "spec_is_whole"),
        (broken({"limit": float("inf")}), "spec_is_whole"),
        (broken({"needs": "money"}), "spec_is_whole"),
        (broken({"aggregates": {"words": Scale(0)}}), "spec_is_whole"),
        (broken({"carried": ("words",)}), "spec_is_whole"),
        (broken({"metrics": {"words": Scale(1, 0)}}), "scales_are_sound"),
        (broken({"aggregates": {"median": Scale(better="upwards")}}), "scales_are_sound"),  # type: ignore[arg-type]
        (broken({"assets": (Asset("words.txt", "", "MIT"),)}), "assets_are_identified"),
        (broken({"assets": (Asset("words.txt", "sha256:00112233445566778899", ""),)}), "assets_are_identified"),
        (Addressed(), "prints_what_it_is"),
        (broken(score=lambda self, s: {"words": 1 / len(s.response)}), "bears_odd_answers"),
        (broken(score=lambda self, s: {"words": float(s.meta.get("expect") == ["Paris"])}), "lacking_facts_are_no_zeros"),
        (broken(score=counting), "order_does_not_matter"),
        (broken(score=sorting), "leaves_samples_as_they_are"),
        (broken(score=lambda self, s: 1.0), "scores_what_the_spec_names"),
        (batched(padded), "batches_say_the_same"),
        (batched(lambda self, samples: [self.score(samples[0])]), "batches_say_the_same"),
        (batched(lambda self, samples: [None for _ in samples]), "batches_say_the_same"),
        (batched(lambda self, samples: [{"words": 1.0, "units": 1.0} for _ in samples]), "batches_say_the_same"),
        (batched(lambda self, samples: sorted(map(self.score, samples), key=str)), "batches_say_the_same"),
        (broken({"aggregates": {}}), "aggregates_what_the_spec_names"),
        (broken(aggregate=lambda self, scores: {}), "aggregates_what_the_spec_names"),
        (broken(aggregate=lambda self, scores: {"median": float("nan")}), "aggregates_what_the_spec_names"),
        (broken(aggregate=first_of_all), "aggregate_is_pure"),
        (broken(aggregate=draining), "aggregate_is_pure"),
        (broken(aggregate=lambda self, scores: {"median": float(next(DRAWN))}), "aggregate_is_pure"),
        (broken(aggregate=dividing), "aggregate_bears_resamples"),
    ],
)
def test_checks_fail(part: Evaluator, check: str) -> None:
    """Each check fails for an evaluator that breaks its rule."""
    assert check in failed(part)


def test_a_draw_without_the_figure_is_nan() -> None:
    """A figure that a draw does not yield may be nan there, not over all samples."""

    def ratio(self: Evaluator, scores: Sequence[Scored]) -> Mapping[str, float]:
        empty = sum(not one.values["words"] for one in scores)
        return {"median": len(scores) / empty if empty else float("nan")}

    assert failed(broken(aggregate=ratio)) == {"pickles", "prints_what_it_is"}  # the class is made in a function


@pytest.mark.parametrize("digest", ["sha256:0011aabbccddeeff00", "0011aabbccddeeff0011aabbccddeeff00112233"])
def test_digests_as_people_write_them(digest: str) -> None:
    """A digest with its method in front, and a commit, are digests."""
    assert "assets_are_identified" not in failed(broken({"assets": (Asset("a model", digest, "MIT"),)}))


def test_one_fault_fails_few_checks() -> None:
    """An evaluator that divides by the length of an empty answer fails the two checks that are about it, and they say so."""
    part = broken(score=lambda self, s: {"words": 1 / len(s.response)})
    assert failed(part) - {"pickles", "prints_what_it_is"} == {"scores_what_the_spec_names", "bears_odd_answers"}
    outcomes = type("Checked", (EvaluatorContract,), {"evaluator": part}).run()
    messages = [one.message for one in outcomes if one.check.name == "test_scores_what_the_spec_names"]
    assert messages == ["score raised ZeroDivisionError: division by zero for sample 'd', ''"]
