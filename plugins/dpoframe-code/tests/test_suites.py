"""The suites, run through the harness by a model that gives known answers, and by the command line without their files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dpoframe_code
import pytest
import torch
from dpoframe_code.problems import Problem
from dpoframe_code.sandbox import Sandbox
from torch import Tensor, nn

from dpoframe import ConfigError, Example, MachineError, Modality, Request, Sample, Scores
from dpoframe.cli import main
from dpoframe.harness import EvalFolder, Subject, load_suite, run_suite

SUITES = dpoframe_code.dpoframe_suites()
FILES = {"humaneval": "HumanEval", "humaneval-base": "HumanEval", "mbpp": "MBPP", "mbpp-base": "MBPP"}


@dataclass(frozen=True)
class Solver(Modality):
    """Gives an answer from a list, by the number of the sample."""

    answers: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Nothing that learns."""
        return nn.Linear(1, 1)

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Nothing to read."""
        return {"one": torch.ones(len(examples))}

    def score(self, model: nn.Module, batch: dict[str, Tensor]) -> Scores:
        """No likelihood."""
        return Scores(batch["one"], batch["one"])

    def generate(self, model: nn.Module, requests: Sequence[Request]) -> Iterator[Sample]:
        """The answer to each request."""
        for request in requests:
            name, _, number = request.id.rpartition("#")
            yield Sample(request.id, request.prompt, self.answers[name][int(number)], detail={"length": 5.0})


def results(out: Path, suite: Path, answers: Mapping[str, Sequence[str]], *changes: str) -> dict[str, Any]:
    """The figures of a suite by name."""
    loaded = load_suite(suite, overrides=changes)
    modality = Solver(answers=answers)
    run_suite(Subject("solver", modality, modality.build()), loaded, out)
    return dict(json.loads((out / "results.json").read_text())["metrics"])


@pytest.fixture
def problems(tmp_path: Path, rows: dict[str, dict[str, Any]]) -> Path:
    """Two problems of HumanEval's layout."""
    path = tmp_path / "problems.jsonl"
    second = {**rows["HumanEval"], "task_id": "HumanEval/950"}
    second["prompt"] = second["prompt"].replace("of none", "of nothing")
    path.write_text("".join(json.dumps(row) + "\n" for row in (rows["HumanEval"], second)))
    return path


@pytest.mark.parametrize("name", sorted(SUITES))
def test_every_suite_parses(tmp_path: Path, rows: dict[str, dict[str, Any]], sandbox: Sandbox, name: str) -> None:
    """Each suite loads under its name once it has a file, asks every problem in it, and each carries its tests."""
    path = tmp_path / "problems.jsonl"
    path.write_text(json.dumps(rows[FILES[name]]) + "\n")
    suite = load_suite(SUITES[name], overrides=[f"prompts.path={path}"])
    assert suite.name == name
    assert len(suite.prompts) == 1
    assert Problem.of_plain(suite.prompts[0].meta["problem"]).entry_point
    assert isinstance(suite.requests()[0].prompt, str) == name.endswith("-base")


@pytest.mark.parametrize("name", sorted(SUITES))
def test_suite_without_its_file(name: str) -> None:
    """Without a file the suite says what gets it, and where it is named."""
    with pytest.raises(MachineError, match=r"(?s)No file of problems is given.*--set prompts.path=FILE.*curl -LO https://"):
        load_suite(SUITES[name])


def test_broken_row_stops_the_suite(problems: Path) -> None:
    """A benchmark with a broken row is not measured as if it were whole: file, row and reason are told."""
    problems.write_text(
        problems.read_text() + json.dumps({"task_id": 3, "prompt": "x", "entry_point": "f", "test": "def ("}) + "\n"
    )
    with pytest.raises(ConfigError, match=r"problems.jsonl:3: The tests are no Python"):
        load_suite(SUITES["humaneval"], overrides=[f"prompts.path={problems}"])


def test_greedy_run(tmp_path: Path, problems: Path, sandbox: Sandbox) -> None:
    """One answer a problem: the share that passes, each status beside it, and the raw answers as they were given."""
    answers = {
        "HumanEval/900": ["Sure!\n\n```python\ndef top(xs):\n    return max(xs) if xs else 0\n```\nDone."],
        "HumanEval/950": ["```python\ndef top(xs):\n    while True:\n        pass\n```"],
    }
    changes = (f"prompts.path={problems}", "evaluators=[{name: pass_at_k, cpu_seconds: 1}]")
    found = results(tmp_path / "out", SUITES["humaneval"], answers, *changes)
    assert (found["passed"]["value"], found["passed"]["n"], found["passed"]["unscored"]) == (0.5, 2, 0)
    assert (found["passed/timeout"]["value"], found["passed/wrong"]["value"]) == (0.5, 0)
    assert "pass_at_k" not in found
    samples = {row.id: row.response for row in EvalFolder(tmp_path / "out").samples()}
    assert samples == {f"{name}#0": texts[0] for name, texts in answers.items()}
    kept = [json.loads(line) for line in (tmp_path / "out" / "scores.jsonl").read_text().splitlines()]
    assert [(one["values"]["rule"], one["values"]["tier"]) for one in kept] == [
        (2, list(type(sandbox.tier)).index(sandbox.tier) + 1)
    ] * 2


def test_drawn_run(tmp_path: Path, problems: Path, sandbox: Sandbox) -> None:
    """Several answers a problem: pass@k with an interval over problems, and no pass@k for which there are too few."""
    good, bad = "    return max([0, *xs])\n", "    return 1\n"
    answers = {"HumanEval/900": [good, bad, bad, bad], "HumanEval/950": [bad] * 4}
    changes = (f"prompts.path={problems}", "samples=4", "generation.temperature=0.8")
    found = results(tmp_path / "a", SUITES["humaneval-base"], answers, *changes, "evaluators=[{name: pass_at_k, k: [1, 2]}]")
    assert found["pass_at_k"]["value"] == pytest.approx(0.125)
    assert found["pass_at_k/pass@2"]["value"] == pytest.approx(0.25)
    assert (found["pass_at_k"]["n"], "passed" in found) == (2, False)
    # Of two problems with .25 and 0 a draw of problems gives .25, 0 or their mean; a draw of answers would give more.
    assert (found["pass_at_k"]["ci_low"], found["pass_at_k"]["ci_high"]) == (0, 0.25)
    short = results(tmp_path / "b", SUITES["humaneval-base"], answers, *changes, "evaluators=[{name: pass_at_k, k: [8]}]")
    assert short["pass_at_k"]["value"] is None
    assert "pass@8 needs 8 scored answers a problem" in short["pass_at_k"]["reason"]


def test_pairs_of_an_evaluation(tmp_path: Path, problems: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """`dpoframe data build` makes pairs of an evaluation's answers: what passes is preferred to what does not."""
    good, bad = "    return max([0, *xs])\n", "    return 1\n"
    answers = {"HumanEval/900": [bad, good], "HumanEval/950": [bad, bad.replace("1", "2")]}
    changes = (f"prompts.path={problems}", "samples=2")
    results(tmp_path / "run", SUITES["humaneval-base"], answers, *changes)
    out = tmp_path / "pairs.jsonl"
    assert main(["data", "build", str(tmp_path / "run"), "--evaluator", "pass_at_k", "--out", str(out)]) == 0
    (pair,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert (pair["chosen"], pair["rejected"]) == (good, bad)
    assert (pair["score_chosen"], pair["score_rejected"], pair["metric"]) == (1, 0, "passed")
    assert "1 pair of 1 prompt" in capsys.readouterr().out
