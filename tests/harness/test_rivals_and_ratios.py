"""Suites with evaluators that compare with the base: the divergence from it, and the win rate against its answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from dpoframe import Example, Request, Sample, hookimpl
from dpoframe.builtin import judge as judges
from dpoframe.harness import EvalFolder, Subject, load_suite, run_suite
from dpoframe.harness.suites.needs import needs
from dpoframe.harness.suites.suite_file import read_suite
from dpoframe.plugins import PluginHost
from dpoframe.rng import seed_of
from dpoframe.testing.toy import ToyModality

SUITE = """
name: small
version: 1
prompts: prompts.jsonl
generation: {max_new_tokens: 10, temperature: 1.0}
samples: 2
seed: 5
evaluators:
  - kl
  - {name: win_rate, judge: {modality: letter-counter, init_seed: 4}}
"""


class LetterCounter(ToyModality):
    """A judge that prefers the answer with more letters a, and says nothing of use where one of them has a z."""

    def generate(self, model: nn.Module, requests: Sequence[Request]) -> Iterator[Sample]:
        """One letter a request."""
        for request in requests:
            content: Any = request.prompt
            first, second = (content[0]["content"].split(f"<answer_{name}>")[1].split("</answer")[0] for name in "AB")
            better = "T" if first.count("a") == second.count("a") else "AB"[first.count("a") < second.count("a")]
            yield Sample(request.id, request.prompt, "Well." if "z" in first + second else better)


class Judges:
    """A plugin with the judge."""

    @hookimpl
    def dpoframe_modalities(self) -> Mapping[str, Any]:
        """By name."""
        return {"letter-counter": LetterCounter}


@pytest.fixture
def suite_file(tmp_path: Path, plugins: PluginHost, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite with five prompts, two answers each."""
    plugins.register(Judges(), "judges")
    monkeypatch.setattr(judges, "_LOADED", {})
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"say {letter}"}) + "\n" for letter in "abcde"))
    file = tmp_path / "small.yaml"
    file.write_text(SUITE)
    return file


def test_figures_against_the_base(suite_file: Path, plugins: PluginHost, subject: Subject, other: Subject, tmp_path: Path) -> None:
    """KL and win rate follow from the stored answers of both models, and the win rate at equal lengths has an interval."""
    suite = load_suite(suite_file, plugins)
    run_suite(subject, suite, tmp_path / "base")
    metrics = run_suite(other, suite, tmp_path / "out", base=subject, rivals=tmp_path / "base").metrics
    rows, base = EvalFolder(tmp_path / "out").samples(), EvalFolder(tmp_path / "base").samples()
    wins = {}
    for row, old in zip(rows, base, strict=True):
        new, before = row.response.strip(), old.response.strip()
        if "z" not in new + before or new == before:
            wins[row.id] = 0.5 + 0.5 * ((new.count("a") > before.count("a")) - (new.count("a") < before.count("a")))
    assert 0 < len(wins) < len(rows)
    assert len(set(wins.values())) > 1
    found = {one.id: one for one in EvalFolder(tmp_path / "out").scores() if one.evaluator == "win_rate"}
    assert {name: one.values["win"] for name, one in found.items() if one.values} == wins
    assert all("the judge gave no verdict: 'Well.'" in found[name].reason for name in set(found) - set(wins))
    assert metrics["win_rate"].unscored == len(rows) - len(wins)
    interval = metrics["win_rate/length_controlled"].interval
    assert 0 <= interval.low <= interval.value <= interval.high <= 1

    def logp(one: Subject, row: Any) -> float:
        ends = row.finished or not row.response
        example = Example(row.prompt, row.response, seed_of(suite.seed, row.id), row.id, ends)
        return float(one.modality.score(one.model, one.modality.collate([example])).value.detach())

    ratios = [logp(other, row) - logp(subject, row) for row in rows]
    assert metrics["kl"].interval.value == pytest.approx(sum(ratios) / len(ratios), abs=1e-4)
    assert metrics["kl/k3"].interval.value > 0


def test_without_a_base(suite_file: Path, plugins: PluginHost, subject: Subject, tmp_path: Path) -> None:
    """A model that is its own base has diverged by nothing; without another answer no sample has a win rate, and says so."""
    metrics = run_suite(subject, load_suite(suite_file, plugins), tmp_path / "out").metrics
    assert metrics["kl"].interval.value == metrics["kl/k3"].interval.value == 0.0
    scores = [one for one in EvalFolder(tmp_path / "out").scores() if one.evaluator == "win_rate"]
    assert {one.reason for one in scores} == {"there is no other answer to compare with"}


def test_needs_name_the_judge(suite_file: Path, plugins: PluginHost) -> None:
    """A suite says which endpoint, key or model its judge needs."""
    judge = "{url: http://localhost:9/v1, model: m, api_key_env: JUDGE_KEY}"
    found = {}
    for name, section in (("local", "{modality: letter-counter, settings: {model: mine}}"), ("endpoint", judge)):
        suite_file.write_text(SUITE.replace("{modality: letter-counter, init_seed: 4}", section))
        found[name] = needs(read_suite(suite_file, plugins))
    rival = "win_rate: another answer to each prompt, the base's or a `reference`"
    assert found["local"][1:] == [rival, "win_rate: the model mine"]
    assert found["endpoint"][1:] == [rival, "win_rate: the endpoint http://localhost:9/v1", "win_rate: a key in $JUDGE_KEY"]
