"""Each check of the evaluator's contract fails for an evaluator that breaks its rule."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import pytest

from dpoframe import Evaluator, EvaluatorSpec, Refused, Scale
from dpoframe.testing import EvaluatorContract

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
def test_evaluator_checks_fail(part: Evaluator, check: str, failed: Any) -> None:
    """Each check of the evaluator's contract fails for an evaluator that breaks its rule."""
    assert check in failed(EvaluatorContract, evaluator=part)


def test_evaluator_that_refuses_is_skipped() -> None:
    """Scores are not asked of an evaluator that cannot run here: those checks are skipped with its reason."""
    part = evaluator_of(lambda s: 1 / 0, probe=lambda self: Refused("no GPU", "buy one"))
    outcomes = {one.check.name: one for one in type("Checked", (EvaluatorContract,), {"evaluator": part}).run()}
    assert outcomes["test_scores_something"].status == "skipped"
    assert "no GPU" in outcomes["test_scores_something"].message
