"""Running a suite: the figures, the files, and going on after a cut."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet
import pytest
import torch

from dpoframe import Evaluator, EvaluatorSpec, Example, PreferencePair, Request, Sample, Scale, Scores
from dpoframe.harness import EvalFolder, Subject, aggregate, load_suite, run_suite, score
from dpoframe.plugins import PluginHost
from dpoframe.rng import seed_of
from dpoframe.testing.toy import ToyModality, toy_pairs

FILES = ("manifest.json", "results.json", "samples.jsonl", "pairs.jsonl", "scores.jsonl", "samples.parquet")


@dataclass(frozen=True)
class Faulty(Evaluator):
    """Raises on one sample, gives nan on another, has nothing to say of a third, and no number for a fourth."""

    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec("faulty", "1", "response", {"value": Scale()}, "value")

    def score(self, sample: Sample) -> Mapping[str, float] | None:
        """One number, or trouble."""
        if sample.id == "p0#0":
            raise RuntimeError("no <such> thing")
        if sample.id == "p0#1":
            return {"value": math.nan}
        if sample.id == "p1#1":
            return {"value": None}  # type: ignore[dict-item]
        return None if sample.id == "p1#0" else {"value": 2.0}


class Counting(ToyModality):
    """Counts the requests it answers, and stops after `limit`."""

    asked: ClassVar[list[str]] = []
    limit: ClassVar[int] = 10**9

    def generate(self, model: torch.nn.Module, requests: Sequence[Request]) -> Iterator[Sample]:
        """As the toy, but it may be cut off."""
        for sample in super().generate(model, requests):
            if len(self.asked) >= self.limit:
                raise KeyboardInterrupt
            self.asked.append(sample.id)
            yield sample


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of an evaluation."""
    return {name: (folder / name).read_bytes() for name in FILES}


def test_results_by_the_contract(suite_file: Path, plugins: PluginHost, subject: Subject, tmp_path: Path) -> None:
    """results.json has exactly the keys that other programs rely on, and its figures follow from the stored samples."""
    result = run_suite(subject, load_suite(suite_file, plugins), tmp_path / "out")
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(written) == {"suite", "suite_version", "suite_digest", "model", "digest", "metrics", "complete"}
    about = EvalFolder(tmp_path / "out").document("manifest.json")
    assert (written["suite_version"], written["suite_digest"]) == ("1", about["suite_digest"])
    assert written["complete"] is True
    assert set(written["metrics"]["finished"]) == {"value", "ci_low", "ci_high", "stderr", "n", "unscored"}
    rows = EvalFolder(tmp_path / "out").samples()
    assert len(rows) == 10
    words = [len(row.response.split()) for row in rows]
    assert written["metrics"]["response_length"]["value"] == pytest.approx(sum(words) / 10)
    assert written["metrics"]["response_length"]["n"] == 5  # prompts, not samples: two answers of one prompt go together
    assert written["metrics"]["contains_expected"]["unscored"] == 2
    assert result.metrics["finished"].interval.value == written["metrics"]["finished"]["value"]


def test_every_file_is_there(suite_file: Path, plugins: PluginHost, subject: Subject, tmp_path: Path) -> None:
    """The folder holds the files of the contract; the table has a row a sample."""
    run_suite(subject, load_suite(suite_file, plugins), tmp_path / "out")
    assert set(contents(tmp_path / "out")) == set(FILES)
    table = pyarrow.parquet.read_table(tmp_path / "out" / "samples.parquet")
    assert table.num_rows == 10
    assert table.column_names == ["id", "prompt", "response", "finished", "detail", "meta"]


def test_margins_are_log_ratios(suite_file: Path, plugins: PluginHost, subject: Subject, other: Subject, tmp_path: Path) -> None:
    """A pair's margin is [log pi(y+) - log ref(y+)] - [log pi(y-) - log ref(y-)], recomputed here pair by pair in float64."""
    run_suite(other, load_suite(suite_file, plugins), tmp_path / "out", base=subject)

    def logp(one: Subject, prompt: str, response: str) -> float:
        model = one.model.double().eval()
        batch = one.modality.collate([Example(prompt, response, 0, "x")])
        batch = {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}
        return float(one.modality.score(model, batch).value.detach())

    for row, pair in zip(EvalFolder(tmp_path / "out").pairs(), toy_pairs(12, 3), strict=True):
        prompt, chosen, rejected = str(pair.prompt), str(pair.chosen), str(pair.rejected)
        expected = logp(other, prompt, chosen) - logp(subject, prompt, chosen)
        expected -= logp(other, prompt, rejected) - logp(subject, prompt, rejected)
        assert row.detail["margin"] == pytest.approx(expected, abs=1e-4)


def test_base_against_itself(suite_file: Path, plugins: PluginHost, subject: Subject, tmp_path: Path) -> None:
    """A model is its own base: every margin 0, accuracy one half, every pair a tie."""
    metrics = run_suite(subject, load_suite(suite_file, plugins), tmp_path / "out").metrics
    assert metrics["preference_accuracy"].interval.value == 0.5
    assert metrics["preference_accuracy/tie_rate"].interval.value == 1.0
    assert metrics["reward_margin"].interval.value == 0.0


def test_base_logp_is_the_bases(suite_file: Path, plugins: PluginHost, subject: Subject, other: Subject, tmp_path: Path) -> None:
    """The log-probability of an answer is the base's, not that of the model that wrote it."""
    suite = load_suite(suite_file, plugins)
    run_suite(other, suite, tmp_path / "out", base=subject)
    row = EvalFolder(tmp_path / "out").samples()[0]
    batch = subject.modality.collate([Example(row.prompt, row.response, seed_of(suite.seed, row.id), row.id, row.finished)])
    assert row.detail["base_logp"] == pytest.approx(float(subject.modality.score(subject.model, batch).value.detach()), abs=1e-4)


def test_same_run_same_bytes(suite_file: Path, plugins: PluginHost, tmp_path: Path) -> None:
    """Two runs of the same model give the same bytes in every file, and so does running again on top."""
    for name in ("one", "two", "one"):
        modality = ToyModality()
        run_suite(Subject("toy", modality, modality.build()), load_suite(suite_file, plugins), tmp_path / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("cut", [0, 1, 6])
def test_goes_on_after_a_cut(suite_file: Path, plugins: PluginHost, tmp_path: Path, cut: int) -> None:
    """A run cut off while it generates answers only what is missing, and ends in the same bytes."""
    suite, modality = load_suite(suite_file, plugins), Counting()
    subject = Subject("toy", modality, modality.build())
    Counting.asked, Counting.limit = [], 10**9
    run_suite(subject, suite, tmp_path / "whole")
    Counting.asked, Counting.limit = [], cut
    with pytest.raises(KeyboardInterrupt):
        run_suite(subject, suite, tmp_path / "cut")
    assert not (tmp_path / "cut" / "results.json").exists()
    Counting.asked, Counting.limit = [], 10**9
    run_suite(subject, suite, tmp_path / "cut")
    assert len(Counting.asked) == 10 - cut
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_never_serves_another_models_answers(
    suite_file: Path, plugins: PluginHost, subject: Subject, other: Subject, tmp_path: Path
) -> None:
    """A folder that holds one model's answers is not taken for another's, whatever the models are called."""
    suite = load_suite(suite_file, plugins)
    run_suite(subject, suite, tmp_path / "out")
    first = [row.response for row in EvalFolder(tmp_path / "out").samples()]
    run_suite(Subject(subject.name, other.modality, other.model), suite, tmp_path / "out")
    second = [row.response for row in EvalFolder(tmp_path / "out").samples()]
    run_suite(other, suite, tmp_path / "fresh")
    assert second == [row.response for row in EvalFolder(tmp_path / "fresh").samples()]
    assert first != second


def test_scores_again_from_files(suite_file: Path, plugins: PluginHost, subject: Subject, tmp_path: Path) -> None:
    """Scoring and aggregating need no model: with the results removed they come out of the stored samples, byte for byte."""
    suite = load_suite(suite_file, plugins)
    run_suite(subject, suite, tmp_path / "out")
    before = contents(tmp_path / "out")
    for name in ("scores.jsonl", "results.json"):
        (tmp_path / "out" / name).unlink()
    score(suite, EvalFolder(tmp_path / "out"))
    aggregate(suite, EvalFolder(tmp_path / "out"))
    assert contents(tmp_path / "out") == before


def test_faulty_evaluator_is_unscored(suite_file: Path, plugins: PluginHost, subject: Subject, tmp_path: Path) -> None:
    """What raises, is nan, or is None is counted as unscored with its reason, never as 0, and the others are scored."""
    suite = replace(load_suite(suite_file, plugins), evaluators=(Faulty(),))
    metric = run_suite(subject, suite, tmp_path / "out").metrics["faulty"]
    assert (metric.interval.value, metric.unscored) == (2.0, 4)
    reasons = {one.id: one.reason for one in EvalFolder(tmp_path / "out").scores() if one.values is None}
    assert reasons["p0#0"] == "RuntimeError: no <such> thing"
    assert "not a finite number" in reasons["p0#1"]
    assert reasons["p1#0"] == "not applicable"
    assert reasons["p1#1"].startswith("TypeError")


def test_training_mode_is_put_back(suite_file: Path, plugins: PluginHost, tmp_path: Path) -> None:
    """Evaluation turns dropout off and leaves the model in the mode it found it in."""
    modality = ToyModality(dropout=0.5)
    model = modality.build().train()
    one = run_suite(Subject("toy", modality, model), load_suite(suite_file, plugins), tmp_path / "a")
    assert model.training
    two = run_suite(Subject("toy", modality, model), load_suite(suite_file, plugins), tmp_path / "b")
    assert one.metrics["base_logp"] == two.metrics["base_logp"]


def test_adapter_off_is_the_base(suite_file: Path, plugins: PluginHost, tmp_path: Path) -> None:
    """A subject with its adapter off writes and scores as the model did before the adapter was trained."""
    modality, suite = ToyModality(adapter=True), load_suite(suite_file, plugins)
    model = modality.build()
    fresh = run_suite(Subject("base", modality, model), suite, tmp_path / "fresh")
    torch.nn.init.normal_(model.adapter.weight)  # type: ignore[union-attr, arg-type]
    off = run_suite(Subject("base", modality, model, adapter_off=True), suite, tmp_path / "off")
    on = run_suite(Subject("base", modality, model), suite, tmp_path / "on")
    assert off.metrics == fresh.metrics
    assert on.metrics != fresh.metrics


class Ending(ToyModality):
    """Scores the end of a response as one unit more, as text does."""

    def score(self, model: torch.nn.Module, batch: Any) -> Scores:
        """The toy's score less 5 where the answer is finished, and its length plus 1."""
        found, ends = super().score(model, batch), batch["ends"]
        return Scores(found.value - 5 * ends, found.length + ends)

    def collate(self, examples: Sequence[Example]) -> Any:
        """The toy's batch, and which answers are finished."""
        return {**super().collate(examples), "ends": torch.tensor([one.finished for one in examples]).long()}


def test_base_logp_leaves_out_the_end_that_was_not_written(suite_file: Path, plugins: PluginHost, tmp_path: Path) -> None:
    """An answer that the limit cut off is scored without an end, and the mean runs over the units that were scored."""
    modality = Ending()
    suite = load_suite(suite_file, plugins)
    run_suite(Subject("toy", modality, modality.build()), suite, tmp_path / "out")
    rows = EvalFolder(tmp_path / "out").samples()
    assert {row.finished for row in rows} == {True, False}
    plain = ToyModality()
    model = plain.build().eval()
    for row in rows:
        batch = plain.collate([Example(row.prompt, row.response, seed_of(suite.seed, row.id), row.id)])
        found = plain.score(model, batch)
        ends = row.finished or not row.response
        assert row.detail["base_logp"] == pytest.approx(float(found.value.detach()) - 5 * ends, abs=1e-4)
        assert row.detail["base_length"] == float(found.length) + ends


def test_pairs_of_one_prompt_are_one_unit(suite_file: Path, plugins: PluginHost, subject: Subject, tmp_path: Path) -> None:
    """Held-out pairs go together by prompt, whatever their ids look like: four pairs of two prompts are n = 2."""
    pairs = [{"id": f"set#{n}", "prompt": f"say {'ab'[n // 2]}", "chosen": "a" * (n + 1), "rejected": "b"} for n in range(4)]
    suite = load_suite(suite_file, plugins)
    suite = replace(suite, pairs=tuple(PreferencePair(**row) for row in pairs))  # type: ignore[arg-type]
    metrics = run_suite(subject, suite, tmp_path / "out").metrics
    assert metrics["reward_margin"].interval.n == 2
