"""Scoring, cut off: a run that goes on asks for no verdict again that had been given, however slow the evaluator."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from dpoframe import Evaluator, EvaluatorSpec, Sample, Scale
from dpoframe.harness import Subject, load_suite, run_suite
from dpoframe.harness.storage import keeping
from dpoframe.harness.storage.folder import Score
from dpoframe.harness.storage.keeping import Keeping
from dpoframe.harness.storage.store import claimed, opened
from dpoframe.plugins import PluginHost


@dataclass(frozen=True)
class Slow(Evaluator):
    """One sample at a time; it is interrupted at some question."""

    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec("slow", "1", "response", {"length": Scale(0)}, "length")
    asked: ClassVar[list[str]] = []
    cut: ClassVar[int | None] = None

    def score(self, sample: Sample) -> Mapping[str, float]:
        """How long an answer is."""
        if self.cut == len(self.asked):
            raise KeyboardInterrupt
        self.asked.append(sample.id)
        return {"length": float(len(str(sample.response)))}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds from now, that verdicts are written by: its last element."""
    begin, now = time.monotonic(), [0.0]
    monkeypatch.setattr(keeping, "time", SimpleNamespace(monotonic=lambda: begin + now[-1]))
    return now


def test_an_interruption_costs_no_verdict(
    suite_file: Path, plugins: PluginHost, subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted at the fifth of ten samples, the run goes on with the fifth, and ends in the scores of an undisturbed one."""
    monkeypatch.setattr(Slow, "asked", [])
    suite = replace(load_suite(suite_file, plugins), evaluators=(Slow(),), pairs=())
    run_suite(subject, suite, tmp_path / "whole")
    every = list(Slow.asked)
    assert len(every) == 10
    Slow.asked.clear()
    monkeypatch.setattr(Slow, "cut", 4)
    with pytest.raises(KeyboardInterrupt):
        run_suite(subject, suite, tmp_path / "cut")
    assert Slow.asked == every[:4]
    monkeypatch.setattr(Slow, "cut", None)
    Slow.asked.clear()
    run_suite(subject, suite, tmp_path / "cut")
    assert Slow.asked == every[4:]
    assert (tmp_path / "cut" / "scores.jsonl").read_bytes() == (tmp_path / "whole" / "scores.jsonl").read_bytes()


@pytest.mark.parametrize(("each", "there"), [(False, [0, 0, 3, 3]), (True, [1, 2, 3, 4])])
def test_verdicts_are_written_after_a_second(tmp_path: Path, clock: list[float], each: bool, there: list[int]) -> None:
    """A kill costs what was judged within a second: nothing older waits to be written. Of paid ones each is there at once."""
    found = []
    with claimed(tmp_path), opened(tmp_path) as store:
        kept = Keeping(store, "slow", each)
        for number, now in enumerate((0.4, 0.9, 30.0, 30.5)):
            clock.append(now)
            kept.put(str(number), Score("slow", "", {"length": 1.0}, "", ""))
            found.append(len(store.judged("slow", ["0", "1", "2", "3"])))
    assert found == there
