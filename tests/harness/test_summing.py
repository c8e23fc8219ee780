"""Figures over all samples: an aggregate that hangs, raises or gives nonsense costs its own figures, and nothing else."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dpoframe import Evaluator, EvaluatorSpec, PluginError, Sample, Scale
from dpoframe.evaluator import Scored
from dpoframe.harness import EvalFolder, Subject, load_suite, run_suite
from dpoframe.harness.phases import limits, summing
from dpoframe.harness.phases.summing import summed
from dpoframe.harness.stats import aggregate_interval
from dpoframe.plugins import PluginHost

SCALES = {"figure": Scale(0.0, 1.0), "other": Scale()}
SPEC = EvaluatorSpec("whole", "1", "response", {"value": Scale()}, "figure", aggregates=SCALES, limit=0.3)
SCORED = [Scored(str(number), str(number), {"value": float(number % 3)}) for number in range(12)]


@dataclass(frozen=True)
class Whole(Evaluator):
    """Its figures are what a function makes of all samples."""

    spec: ClassVar[EvaluatorSpec] = SPEC
    call: ClassVar[Callable[[Sequence[Scored]], Any]]

    def score(self, sample: Sample) -> Mapping[str, float]:
        """The answer's length."""
        return {"value": float(len(str(sample.response)))}

    def aggregate(self, scores: Sequence[Scored]) -> Any:
        """As the function has it."""
        return type(self).call(scores)


def whole(call: Callable[[Sequence[Scored]], Any], **spec: Any) -> Whole:
    """An evaluator whose `aggregate` this is."""
    kind: Any = type("Whole", (Whole,), {"call": staticmethod(call), "spec": replace(SPEC, **spec)})
    made: Whole = dataclass(frozen=True)(kind)()
    return made


def hang(scores: Sequence[Scored]) -> Any:
    """Takes longer than the limit."""
    time.sleep(30)


def fail(scores: Sequence[Scored]) -> Any:
    """Raises what no bootstrap expects."""
    raise RuntimeError("no model")


def share(scores: Sequence[Scored]) -> dict[str, float]:
    """Of values that are 1."""
    return {"figure": sum(one.values["value"] == 1 for one in scores) / len(scores)}


BAD = [
    (hang, "aggregate was stopped at its limit of 0.3 s"),
    (fail, "aggregate raised RuntimeError: no model"),
    (lambda scores: 1 / 0, "aggregate raised ZeroDivisionError: division by zero"),
    (lambda scores: 0.5, "TypeError: aggregate returned of type float, expected a mapping of figures to numbers"),
    (lambda scores: {"figure": "much"}, "TypeError: figure is of type str, expected a number"),
    (lambda scores: {"figure": math.inf}, "figure is not a finite number"),
    (lambda scores: {"figure": 17}, "figure is 17, outside its scale 0 to 1"),
    (lambda scores: {}, "aggregate gave no such figure"),
]


@pytest.fixture(params=["timer", "threads"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of asking."""
    if request.param == "threads":
        monkeypatch.setattr(limits, "_has_timer", lambda: False)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("call", "reason"), BAD)
def test_what_goes_wrong_is_a_reason(call: Callable[[Sequence[Scored]], Any], reason: str) -> None:
    """Time, errors and what is no number on the scale leave the figure unknown with the reason, soon."""
    started = time.monotonic()
    found = summed(whole(call), SCORED)
    assert found.reasons["figure"] == reason
    assert "figure" not in found.intervals
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("call", [hang, fail])
def test_the_other_evaluators_figures_are_written(
    suite_file: Path, plugins: PluginHost, subject: Subject, tmp_path: Path, call: Callable[[Sequence[Scored]], Any]
) -> None:
    """A run ends with the exports and all other figures; the one that went wrong is null with its reason, and not complete."""
    suite = load_suite(suite_file, plugins)
    plain = run_suite(subject, suite, tmp_path / "plain")
    result = run_suite(subject, replace(suite, evaluators=(*suite.evaluators, whole(call))), tmp_path / "out")
    folder = EvalFolder(tmp_path / "out")
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    metrics = written["metrics"]
    for name in ("whole", "whole/other"):
        assert (metrics[name]["value"], metrics[name]["n"], metrics[name]["unscored"]) == (None, 0, 0)
        assert metrics[name]["reason"].startswith("aggregate ")
        assert result.metrics[name].reason == metrics[name]["reason"]
    assert (written["complete"], result.complete) == (False, False)
    assert {name: one.interval.value for name, one in plain.metrics.items()} == {
        name: metrics[name]["value"] for name in plain.metrics
    }
    assert sum(one.evaluator == "whole" and one.values is not None for one in folder.scores()) == 10


def test_an_unknown_figure_is_the_plugins_fault() -> None:
    """A figure that the spec does not name stops the run."""
    with pytest.raises(PluginError, match=r"'whole' gave figrue, .*Aggregates of its spec: figure, other"):
        summed(whole(lambda scores: {"figrue": 1.0}), SCORED)


@pytest.mark.usefixtures("way")
def test_a_good_one_is_as_without_protection() -> None:
    """Nothing changes for an aggregate that does what it should."""
    found = summed(whole(share), SCORED)
    assert found.intervals == aggregate_interval(SCORED, share)
    assert found.reasons == {}
    assert summed(whole(share), []).intervals == {}


def test_a_figure_that_these_samples_do_not_have() -> None:
    """NaN says that the samples hold nothing of the kind (a class without a member): no figure, and nobody's fault."""
    found = summed(whole(lambda scores: {"figure": 0.5, "rare": math.nan}, aggregates={**SCALES, "rare": Scale(0.0, 1.0)}), SCORED)
    assert found.reasons == {}
    assert found.intervals["figure"].value == 0.5


def test_the_time_of_all_resamples_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the resamples would take too long, the figure stands without an interval, after two calls; the first may be slow."""
    calls: list[float] = []

    def slow(scores: Sequence[Scored]) -> dict[str, float]:
        calls.append(0)
        time.sleep(0.02)
        return share(scores)

    def slow_once(scores: Sequence[Scored]) -> dict[str, float]:
        if len(calls) < 1:
            slow(scores)
        return share(scores)

    monkeypatch.setattr(summing, "MOST_SECONDS", 20.0)
    found = summed(whole(slow), SCORED)
    assert len(calls) == 2
    assert found.intervals["figure"].value == share(SCORED)["figure"]
    assert math.isnan(found.intervals["figure"].low)
    assert found.reasons == {"figure": "no interval: 2011 calls of aggregate take longer than 20 s"}
    calls.clear()
    assert summed(whole(slow_once), SCORED).intervals == aggregate_interval(SCORED, share)


def test_what_goes_wrong_on_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first call is good and the others raise or hang, the figure stands without an interval, with the reason."""

    def first_only(then: Callable[[Sequence[Scored]], Any]) -> Callable[[Sequence[Scored]], Any]:
        left = [share]

        def call(scores: Sequence[Scored]) -> Any:
            return left.pop()(scores) if left else then(scores)

        return call

    monkeypatch.setattr(summing, "MOST_SECONDS", 2.0)
    for call, reason in (
        (fail, "aggregate raised RuntimeError: no model"),
        (hang, "2011 calls of aggregate take longer than 2 s"),
    ):
        found = summed(whole(first_only(call)), SCORED)
        assert found.intervals["figure"].value == share(SCORED)["figure"]
        assert found.reasons == {"figure": f"no interval: {reason}"}
