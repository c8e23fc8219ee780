"""What evaluators of each need are given: the base's answers, the prompts' references, log-probabilities of both models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from dpoframe import Evaluator, EvaluatorSpec, Sample, Scale
from dpoframe.errors import DataError
from dpoframe.harness import EvalFolder, Subject, load_suite, run_suite
from dpoframe.harness.suites.suite import Suite
from dpoframe.plugins import PluginHost


@pytest.fixture
def suite(suite_file: Path, plugins: PluginHost) -> Suite:
    """The small suite."""
    return load_suite(suite_file, plugins)


@dataclass(frozen=True)
class Rivalry(Evaluator):
    """Whether the answer is longer than the rival."""

    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec("rivalry", "1", "rival", {"longer": Scale(0.0, 1.0)}, "longer")

    def score(self, sample: Sample) -> Mapping[str, float]:
        """1 where it is."""
        return {"longer": float(len(str(sample.response)) > len(sample.meta["rival"]))}


def test_rivals_are_the_bases_answers(suite: Suite, subject: Subject, other: Subject, tmp_path: Path) -> None:
    """The other answer is the base's to the same request; without a base it is the prompt's reference, else there is none."""
    suite = replace(suite, evaluators=(Rivalry(),))
    alone = run_suite(subject, suite, tmp_path / "base")
    assert (alone.metrics["rivalry"].interval.n, alone.metrics["rivalry"].unscored) == (0, 10)
    run_suite(other, suite, tmp_path / "out", base=subject, rivals=tmp_path / "base")
    base = {row.id: row.response for row in EvalFolder(tmp_path / "base").samples()}
    assert {row.id: row.meta["rival"] for row in EvalFolder(tmp_path / "out").samples()} == base
    referenced = replace(suite, prompts=tuple(replace(one, meta={"reference": "so"}) for one in suite.prompts))
    found = run_suite(other, referenced, tmp_path / "referenced")
    assert found.metrics["rivalry"].unscored == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rivals"] == json.loads((tmp_path / "base" / "manifest.json").read_text())["digest"]


def test_rivals_of_other_prompts_are_refused(suite: Suite, subject: Subject, other: Subject, tmp_path: Path) -> None:
    """Answers to other prompts under the same ids are no rivals, and an unfinished evaluation has none."""
    suite = replace(suite, evaluators=(Rivalry(),))
    changed = replace(suite, prompts=tuple(replace(one, content="say z") for one in suite.prompts))
    run_suite(subject, changed, tmp_path / "base")
    with pytest.raises(DataError, match="holds no answer to p0#0"):
        run_suite(other, suite, tmp_path / "out", base=subject, rivals=tmp_path / "base")
    with pytest.raises(DataError, match="no finished evaluation"):
        run_suite(other, suite, tmp_path / "out", base=subject, rivals=tmp_path / "nothing")


@dataclass(frozen=True)
class Ratio(Evaluator):
    """Difference of the two log-probabilities."""

    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec("ratio", "1", "logratio", {"nats": Scale()}, "nats")

    def score(self, sample: Sample) -> Mapping[str, float]:
        """Policy - base."""
        return {"nats": sample.detail["policy_logp"] - sample.detail["base_logp"]}


def test_log_ratios_are_of_both_models(suite: Suite, subject: Subject, other: Subject, tmp_path: Path) -> None:
    """An answer's log-probability under the model that wrote it and under the base, each as if scored alone."""
    from dpoframe import Example
    from dpoframe.rng import seed_of

    suite = replace(suite, evaluators=(Ratio(),))
    run_suite(other, suite, tmp_path / "out", base=subject)
    for row in EvalFolder(tmp_path / "out").samples():
        example = Example(row.prompt, row.response, seed_of(suite.seed, row.id), row.id, row.finished)
        ((policy, length),) = other.scores([example])
        ((base, _),) = subject.scores([example])
        assert row.detail["policy_logp"] == pytest.approx(policy, abs=1e-4)
        assert row.detail["base_logp"] == pytest.approx(base, abs=1e-4)
        assert row.detail["base_length"] == length
