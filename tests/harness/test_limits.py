"""Asking evaluators: what goes wrong is a reason, never a number, and nothing keeps the run from going on."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from dpoframe import Evaluator, EvaluatorSpec, PluginError, Sample, Scale, UnscoredError
from dpoframe.harness.phases import limits
from dpoframe.harness.phases.limits import AGAIN, NO_RIVAL, PATIENCE, score_all, to_ask_again
from dpoframe.harness.storage.folder import Row, Score
from dpoframe.types import content_digest

SPEC = EvaluatorSpec("one", "1", "response", {"value": Scale(), "other": Scale()}, "value", limit=0.3)


def stubborn() -> None:
    """Swallows whatever it is first told, and goes on."""
    try:
        time.sleep(30)
    except BaseException:
        time.sleep(30)


HANGS = {
    "loop": lambda: all(value == 0 for value in iter(int, 1)),
    "sleep": lambda: time.sleep(8),
    "regex": lambda: re.match(r"(a+)+b", "a" * 40),
    "wait": lambda: threading.Event().wait(30),
    "process": lambda: subprocess.run([sys.executable, "-c", "import time; time.sleep(30)"], check=True),
    "stubborn": stubborn,
}


@dataclass(frozen=True)
class Calling(Evaluator):
    """Calls what stands under the sample's response."""

    width: int = 1
    spec: ClassVar[EvaluatorSpec] = SPEC
    calls: ClassVar[Mapping[str, Callable[[], Any]]] = {}
    asked: ClassVar[list[str]] = []

    def score(self, sample: Sample) -> Any:
        """What the call returns."""
        self.asked.append(sample.id)
        return self.calls[str(sample.response)]()

    def at_once(self) -> int:
        """As many as the field says."""
        return self.width


def calling(calls: Mapping[str, Callable[[], Any]], width: int = 1, **spec: Any) -> Calling:
    """An evaluator of these calls."""
    kind: Any = type("Calling", (Calling,), {"calls": calls, "asked": [], "spec": replace(SPEC, **spec)})
    made: Calling = dataclass(frozen=True)(kind)(width)
    return made


def rows(*responses: str) -> list[Row]:
    """One row a response."""
    return [Row(f"k{number}", f"s{number}", "q", response) for number, response in enumerate(responses)]


def raising(error: BaseException) -> Callable[[], Any]:
    """A call that raises."""

    def call() -> None:
        raise error

    return call


def require_ended(before: list[threading.Thread]) -> None:
    """No thread is left beside those of `before`."""
    end = time.monotonic() + 6
    while left := set(threading.enumerate()) - set(before):
        assert time.monotonic() < end, left
        time.sleep(0.01)


@pytest.fixture(params=["timer", "threads", "crew"])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Every way of asking: the timer, one watched thread where there is no timer, and several threads."""
    if request.param == "threads":
        monkeypatch.setattr(limits, "_has_timer", lambda: False)
    return 4 if request.param == "crew" else 1


@pytest.mark.parametrize(
    ("found", "values"),
    [
        ({"value": 1}, {"value": 1.0}),
        ({"value": True, "other": -0.5}, {"value": 1.0, "other": -0.5}),
        ({"value": np.float32(0.5)}, {"value": 0.5}),
        ({"value": torch.tensor(2.0)}, {"value": 2.0}),
    ],
)
def test_numbers_of_any_kind(found: Any, values: Any, width: int) -> None:
    """What is one number counts, whoever's type it is; a metric may be left out."""
    (score,) = score_all(calling({"x": lambda: found}, width), rows("x"))
    assert score == Score("one", "s0", values, "", content_digest("q"))


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "not applicable"),
        ({}, "score returned no metric"),
        (0.5, "TypeError: score returned of type float, expected a mapping of metrics to numbers or None"),
        ({"value": None}, "TypeError: value is None, expected a number"),
        ({"value": "1"}, "TypeError: value is of type str, expected a number"),
        ({"value": np.ones(1)}, "TypeError: value is of type ndarray, expected a number"),
        ({"value": math.nan, "other": 1.0}, "value is not a finite number"),
        ({"value": math.inf, "other": -math.inf}, "other, value is not a finite number"),
    ],
)
def test_what_is_no_number_is_unscored(found: Any, reason: str, width: int) -> None:
    """None, nothing, NaN, infinity and wrong types leave the sample unscored with a reason; the next sample is scored."""
    scores = list(score_all(calling({"x": lambda: found, "ok": lambda: {"value": 1.0}}, width), rows("x", "ok")))
    assert [(one.values, one.reason) for one in scores] == [(None, reason), ({"value": 1.0}, "")]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("no <such> thing"), "RuntimeError: no <such> thing"),
        (KeyError("margin"), "KeyError: 'margin'"),
        (ValueError(), "ValueError"),
        (SystemExit(3), "SystemExit: 3"),
        (UnscoredError("the judge said 'maybe'"), "the judge said 'maybe'"),
        (TypeError(f"bad {object()}"), "TypeError: bad <object object at 0x...>"),
    ],
)
def test_what_is_raised_is_the_reason(error: BaseException, reason: str, width: int) -> None:
    """An error's type and message are the reason, without addresses, so that two runs say the same; others are scored."""
    scores = list(score_all(calling({"x": raising(error), "ok": lambda: {"value": 1.0}}, width), rows("x", "ok")))
    assert [one.reason for one in scores] == [reason, ""]
    assert not to_ask_again(scores[0])


def test_an_error_without_a_message_that_can_be_had() -> None:
    """An error whose own text raises is named by its type."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert [one.reason for one in score_all(calling({"x": raising(MuteError())}), rows("x"))] == ["MuteError"]


BOUNDED = {"value": Scale(0.0, 1.0), "other": Scale(None, 0.0)}


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"value": 17}, "value is 17, outside its scale 0 to 1"),
        ({"value": -0.25}, "value is -0.25, outside its scale 0 to 1"),
        ({"value": 1.0, "other": 2.5}, "other is 2.5, outside its scale up to 0"),
        ({"value": 1 + 1e-8, "other": 3}, "other is 3, outside its scale up to 0, value is 1.00000001, outside its scale 0 to 1"),
    ],
)
def test_what_the_scale_does_not_have_is_unscored(found: Any, reason: str, width: int) -> None:
    """A number outside the scale that the evaluator's spec gives is no verdict, and names the metric, number and scale."""
    (score,) = score_all(calling({"x": lambda: found}, width, metrics=BOUNDED), rows("x"))
    assert (score.values, score.reason) == (None, reason)


def test_rounding_does_not_leave_the_scale(width: int) -> None:
    """A number that rounding took past a bound is the bound; bounds themselves, and what is far below an open one, are scored."""
    calls = {
        "a": lambda: {"value": 1 + 4e-16, "other": 1e-10},
        "b": lambda: {"value": -1e-12, "other": -1e300},
        "c": lambda: {"value": 1},
    }
    found = [one.values for one in score_all(calling(calls, width, metrics=BOUNDED), rows("a", "b", "c"))]
    assert found == [{"value": 1.0, "other": 0.0}, {"value": 0.0, "other": -1e300}, {"value": 1.0}]


def test_unknown_metric_is_the_plugins_fault(width: int) -> None:
    """A metric that the spec does not name stops the run, with the evaluator and the known names in the message."""
    with pytest.raises(PluginError, match=r"'one' gave valeu, which its spec does not name\. Metrics of its spec: other, value"):
        list(score_all(calling({"x": lambda: {"valeu": 1.0}}, width), rows("x")))


def test_what_is_carried_is_kept(width: int) -> None:
    """Numbers that the spec names as carried are kept with the metrics, on no scale; one that is no number leaves no verdict."""
    calls = {"x": lambda: {"value": 1.0, "v0": -7.5, "v1": 1e9}, "y": lambda: {"value": 1.0, "v0": math.nan, "v1": 0.0}}
    found = list(score_all(calling(calls, width, metrics={"value": Scale(0, 1)}, carried=("v0", "v1")), rows("x", "y")))
    assert found[0].values == {"value": 1.0, "v0": -7.5, "v1": 1e9}
    assert (found[1].values, found[1].reason) == (None, "v0 is not a finite number")


@pytest.mark.parametrize("limit", [0.0, -1.0, math.inf, math.nan])
def test_a_limit_that_is_no_time(limit: float) -> None:
    """A limit of no seconds, or without end, is the plugin's fault."""
    with pytest.raises(PluginError, match="must be finite and above 0"):
        list(score_all(calling({}, limit=limit), rows("x")))


@pytest.mark.parametrize("kind", HANGS)
def test_a_hung_one_is_stopped(kind: str) -> None:
    """Python code, a regular expression, a sleep, a lock and a child process are stopped at the limit; the run goes on."""
    started = time.monotonic()
    scores = list(score_all(calling({"x": HANGS[kind], "ok": lambda: {"value": 1.0}}), rows("x", "ok")))
    assert time.monotonic() - started < 10
    assert scores[0].reason == f"stopped at its limit of 0.3 s {AGAIN}"
    assert to_ask_again(scores[0])
    assert scores[1].values == {"value": 1.0}


@pytest.mark.parametrize("kind", ["loop", "sleep"])
def test_a_hung_one_is_left_behind(kind: str, width: int) -> None:
    """The same in every way of asking."""
    scores = list(score_all(calling({"x": HANGS[kind], "ok": lambda: {"value": 1.0}}, width), rows("ok", "x", "ok", "x", "ok")))
    assert [one.values is None for one in scores] == [False, True, False, True, False]


def test_a_loop_in_a_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that was left behind in Python code ends, and takes no more of the machine."""
    monkeypatch.setattr(limits, "_has_timer", lambda: False)
    before = threading.enumerate()
    list(score_all(calling({"x": HANGS["loop"]}), rows("x")))
    require_ended(before)


def test_in_another_thread() -> None:
    """Asked from another thread than the main one, where no signal can be had, the limit holds too."""
    found: list[Score] = []
    evaluator = calling({"x": HANGS["sleep"], "ok": lambda: {"value": 1.0}})
    thread = threading.Thread(target=lambda: found.extend(score_all(evaluator, rows("x", "ok"))))
    thread.start()
    thread.join(20)
    assert [one.values for one in found] == [None, {"value": 1.0}]


def test_patience_ends(width: int) -> None:
    """After three hangs in a row the rest is unscored with that reason and is not asked, so it costs three limits only."""
    evaluator = calling({"x": HANGS["sleep"], "ok": lambda: {"value": 1.0}}, width)
    scores = list(score_all(evaluator, rows("x", "x", "ok", *"xxx", *["ok"] * 20)))
    assert [one.values is not None for one in scores[:6]] == [False, False, True, False, False, False]
    assert {one.reason for one in scores[-10:]} == {
        f"not asked after {PATIENCE} failures in a row: stopped at its limit of 0.3 s {AGAIN}"
    }
    assert all(to_ask_again(one) for one in scores[-10:])
    assert len(evaluator.asked) <= 6 + width  # those that were under way already


def test_service_that_is_down(width: int) -> None:
    """Failures that are not the sample's own use up the patience too, and are asked again; plain ones do not."""
    down = calling({"x": raising(UnscoredError("no answer", again=True)), "bad": raising(ValueError("bad"))}, width)
    scores = list(score_all(down, rows(*"xx", "bad", *["bad"] * 10)))
    assert [one.reason for one in scores] == [f"no answer {AGAIN}"] * 2 + ["ValueError: bad"] * 11
    assert list(score_all(down, rows(*["x"] * 30)))[-1].reason == f"not asked after {PATIENCE} failures in a row: no answer {AGAIN}"


def test_without_a_rival() -> None:
    """An evaluator that compares is not asked about a sample that has nothing to be compared with."""
    evaluator = calling({"x": lambda: {"value": 1.0}}, needs="rival")
    given = [replace(row, meta=meta) for row, meta in zip(rows("x", "x", "x"), [{}, {"rival": None}, {"rival": ""}], strict=True)]
    assert [one.reason for one in score_all(evaluator, given)] == [NO_RIVAL, NO_RIVAL, ""]


def test_it_streams(width: int) -> None:
    """Rows are read as they are needed, and scores come in their order."""
    read: list[str] = []

    def source() -> Iterator[Row]:
        for row in rows(*["x"] * 50):
            read.append(row.id)
            yield row

    scores = score_all(calling({"x": lambda: {"value": 1.0}}, width), source())
    assert next(scores).id == "s0"
    assert len(read) <= width
    assert [one.id for one in scores] == [f"s{number}" for number in range(1, 50)]


def test_several_are_asked_at_once() -> None:
    """Where the evaluator says so, samples are asked about side by side: each call goes on once eight are there."""
    meeting = threading.Barrier(8)
    waiting = calling({"x": lambda: {"value": float(meeting.wait(30) >= 0)}}, 8, limit=60.0)
    assert [one.values for one in score_all(waiting, rows(*["x"] * 8))] == [{"value": 1.0}] * 8


def test_ctrl_c_is_not_swallowed(width: int) -> None:
    """An interrupt ends the run."""
    with pytest.raises(KeyboardInterrupt):
        list(score_all(calling({"x": raising(KeyboardInterrupt())}, width), rows("x")))


def test_a_timer_set_before_goes_on() -> None:
    """A timer and handler that the caller has set stand afterwards, shorter by the time that went by."""
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    kept = signal.setitimer(signal.ITIMER_REAL, 0.4)
    try:
        scores = list(score_all(calling({"x": lambda: time.sleep(0.1) or {"value": 1.0}}, limit=5.0), rows("x")))  # type: ignore[func-returns-value]
        assert scores[0].values == {"value": 1.0}
        assert not rung
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] < 0.35
        time.sleep(0.5)
        assert rung == [signal.SIGALRM]
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *kept)


def test_nothing_is_left_of_the_timer() -> None:
    """After scoring, the handler is the old one."""
    before, left = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)[0]
    list(score_all(calling({"x": HANGS["sleep"]}), rows("x")))
    assert signal.getsignal(signal.SIGALRM) is before
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == (left > 0)


def test_threads_end_with_the_last_sample(width: int) -> None:
    """No thread is kept, though the consumer stops half-way."""
    before = threading.enumerate()
    scores = score_all(calling({"x": lambda: {"value": 1.0}}, width), rows(*["x"] * 20))
    next(scores)
    scores.close()  # type: ignore[attr-defined]
    require_ended(before)


def test_no_timer_where_none_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that Python did not set cannot be put back, so it is left alone."""
    assert limits._has_timer()
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    assert not limits._has_timer()
