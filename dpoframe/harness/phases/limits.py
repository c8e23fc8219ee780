"""Asks an evaluator about samples, within its limit; what goes wrong leaves a sample unscored, with the reason.

In the main thread of a POSIX process the limit is an interval timer. It costs microseconds a sample, and stops Python
code, regular expressions, sleeps and blocking reads where they stand. Elsewhere (Windows, other threads, evaluators that
are asked about several samples at once) samples go to threads that are watched; one whose time is up is told to stop and
left behind. A call into a C library is stopped when it comes back to Python.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import math
import queue
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, TypeAlias

from dpoframe.config.secrets import scrubbed
from dpoframe.errors import PluginError, UnscoredError
from dpoframe.evaluator import Evaluator, EvaluatorSpec, Scale
from dpoframe.harness.storage.folder import AGAIN, NOT_APPLICABLE, Row, Score
from dpoframe.types import Sample, content_digest

PATIENCE = 3
"""Failures in a row that are not the samples' own, after which an evaluator is asked no more."""

NO_RIVAL = "there is no other answer to compare with"

_LONGEST_REASON = 4000
_ROUNDING = 1e-9
_REPEAT = 1.0
_OPEN = Scale(better=None)
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")

Pending: TypeAlias = Callable[[], Any]
"""Waits for what the call returned; raises what it raised, or `OverdueError`."""


_Outcome: TypeAlias = tuple[Any, BaseException | None]
"""What a call returned, or what it raised."""


class OverdueError(BaseException):
    """Raised inside an evaluator whose time is up. It is no Exception, so that a broad `except` does not swallow it."""


@dataclass(frozen=True)
class _Verdict:
    """What is known of one sample; `again` as in `UnscoredError`."""

    values: Mapping[str, float] | None
    reason: str = ""
    again: bool = False


@dataclass
class _Patience:
    """Counts failures in a row that are not the samples' own; `end` is the verdict on all samples once they are too many."""

    failures: int = 0
    end: _Verdict | None = None

    def note(self, verdict: _Verdict) -> None:
        """Takes the verdict on an asked sample into account."""
        self.failures = self.failures + 1 if verdict.again else 0
        if self.failures >= PATIENCE and self.end is None:
            self.end = _Verdict(None, f"not asked after {PATIENCE} failures in a row: {verdict.reason}", again=True)


def score_all(evaluator: Evaluator, rows: Iterable[Row]) -> Iterator[Score]:
    """One score a row, in order, as they come.

    A sample is unscored where the evaluator raises, has nothing to say, gives something else than finite numbers on the
    scales of its spec, or takes longer than its limit. After `PATIENCE` samples in a row that were stopped at the limit, or
    failed for reasons not their own, the evaluator is asked no more: a hung one does not cost its limit times the number
    of samples. Where the evaluator takes batches, the samples of a batch that fails are asked about one by one.

    Args:
        evaluator: Whom to ask.
        rows: Samples; read as they are needed.

    Raises:
        PluginError: The evaluator gave a metric that its spec does not name, another number of verdicts than a batch has
            samples, or its limit is no time.
    """
    spec = evaluator.spec
    seconds, width = seconds_of(spec), max(1, evaluator.at_once())
    waiting: deque[tuple[Row, _Verdict | Pending]] = deque()
    patience = _Patience()
    asked = _Batches(evaluator, patience).over(rows) if evaluator.batch_size() > 1 else ((row, None) for row in rows)

    def first() -> Score:
        row, pending = waiting.popleft()
        verdict = pending if isinstance(pending, _Verdict) else _verdict(spec, pending, seconds)
        patience.note(verdict)
        return Score(spec.id, row.id, verdict.values, verdict.reason, content_digest(row.prompt))

    with asking(evaluator.score, seconds, width) as ask:
        for row, known in asked:
            waiting.append((row, known or _absent(spec, row) or patience.end or ask(row.sample)))
            if len(waiting) >= width:
                yield first()
        while waiting:
            yield first()


def to_ask_again(score: Score) -> bool:
    """Whether a later run should ask again: the sample is unscored for a reason that was not its own."""
    return score.values is None and score.reason.endswith(AGAIN)


def seconds_of(spec: EvaluatorSpec) -> float:
    """What one call may take; PluginError where that is no time."""
    if not (math.isfinite(spec.limit) and spec.limit > 0):
        raise PluginError(f"The evaluator {spec.id!r} says a limit of {spec.limit} seconds; it must be finite and above 0.")
    return spec.limit


@dataclass
class _Batches:
    """Asks about several samples in one call. What a failed call was about is left to be asked one by one.

    After `PATIENCE` failures no further batch is tried: each may have cost the whole limit.
    """

    evaluator: Evaluator
    patience: _Patience
    failures: int = 0

    def over(self, rows: Iterable[Row]) -> Iterator[tuple[Row, Pending | None]]:
        """Every row in order, with what waits for its answer, or None where nothing is known of it."""
        spec, there = self.evaluator.spec, iter(rows)
        with asking(self.evaluator.score_batch, seconds_of(spec)) as ask:
            while some := list(itertools.islice(there, self.evaluator.batch_size())):
                wanted = [row for row in some if _absent(spec, row) is None]
                found = self._asked(ask, [row.sample for row in wanted])
                answers = iter(found if found is not None else [None] * len(wanted))
                for row in some:
                    yield row, None if _absent(spec, row) else next(answers)

    def _asked(self, ask: Callable[[Any], Pending], samples: list[Sample]) -> list[Pending] | None:
        if not samples or self.patience.end is not None or self.failures >= PATIENCE:
            return None
        try:
            found = list(ask(samples)())
        except (Exception, SystemExit, OverdueError):
            self.failures += 1
            return None
        if len(found) != len(samples):
            name = self.evaluator.spec.id
            raise PluginError(f"The evaluator {name!r} gave {len(found)} verdicts on a batch of {len(samples)} samples.")
        return [functools.partial(_given, one) for one in found]


def _given(found: Any) -> Any:
    """One item of a batch's answer as `score` would have given it."""
    if isinstance(found, BaseException):
        raise found
    return found


def _absent(spec: EvaluatorSpec, row: Row) -> _Verdict | None:
    """The verdict on a sample that lacks what the evaluator compares with."""
    return _Verdict(None, NO_RIVAL) if spec.needs == "rival" and row.meta.get("rival") is None else None


def _verdict(spec: EvaluatorSpec, pending: Pending, seconds: float) -> _Verdict:
    """Waits for an answer and reads it; errors become reasons."""
    try:
        found = pending()
    except OverdueError:
        return _Verdict(None, f"stopped at its limit of {seconds:g} s {AGAIN}", again=True)
    except UnscoredError as error:
        return _Verdict(None, f"{stable(error)} {AGAIN}" if error.again else stable(error), error.again)
    except (Exception, SystemExit) as error:
        text = stable(error)
        return _Verdict(None, f"{type(error).__name__}: {text}" if text else type(error).__name__)
    return _read(spec, found)


def _read(spec: EvaluatorSpec, found: Any) -> _Verdict:
    """The verdict in what an evaluator returned."""
    if found is None:
        return _Verdict(None, NOT_APPLICABLE)
    if not isinstance(found, Mapping):
        return _Verdict(None, f"TypeError: score returned {kind(found)}, expected a mapping of metrics to numbers or None")
    scales = {**dict.fromkeys(spec.carried, _OPEN), **spec.metrics}
    if unknown := sorted(str(name) for name in found if name not in scales):
        known = ", ".join(sorted(spec.metrics)) or "none"
        raise PluginError(
            f"The evaluator {spec.id!r} gave {', '.join(unknown)}, which its spec does not name. Metrics of its spec: {known}."
        )
    if not found:
        return _Verdict(None, "score returned no metric")
    if wrong := [f"{name} is {kind(value)}" for name, value in sorted(found.items()) if not is_number(value)]:
        return _Verdict(None, f"TypeError: {', '.join(wrong)}, expected a number")
    values = {name: float(value) for name, value in found.items()}
    if bad := sorted(name for name, value in values.items() if not math.isfinite(value)):
        return _Verdict(None, f"{', '.join(bad)} is not a finite number")
    if beyond := [told for name, value in sorted(values.items()) if (told := outside(name, value, scales[name]))]:
        return _Verdict(None, ", ".join(beyond))
    return _Verdict({name: _clipped(value, scales[name]) for name, value in values.items()})


def outside(name: str, value: float, scale: Scale) -> str:
    """What is wrong with a value that its scale does not have; empty where it has it, but for rounding."""
    low, high = scale.low, scale.high
    if (low is None or value >= low - _ROUNDING) and (high is None or value <= high + _ROUNDING):
        return ""
    bounds = f"{low:g} to {high:g}" if None not in (low, high) else f"up to {high:g}" if low is None else f"from {low:g}"
    return f"{name} is {value:.9g}, outside its scale {bounds}"


def _clipped(value: float, scale: Scale) -> float:
    """A value within its bounds, which rounding may have left."""
    value = value if scale.low is None else max(value, float(scale.low))
    return value if scale.high is None else min(value, float(scale.high))


def is_number(value: Any) -> bool:
    """Whether a value is one number: Python's, numpy's or a tensor's."""
    return hasattr(type(value), "__float__") and getattr(value, "ndim", 0) == 0


def kind(value: Any) -> str:
    """What a value is, for a message."""
    return "None" if value is None else f"of type {type(value).__name__}"


def stable(error: BaseException) -> str:
    """The message of an error, the same in every process: without addresses of objects, and without secrets."""
    try:
        text = str(error)
    except Exception:
        return ""
    return _ADDRESS.sub("0x...", scrubbed(text))[:_LONGEST_REASON]


@contextlib.contextmanager
def asking(call: Callable[[Any], Any], seconds: float, width: int = 1) -> Iterator[Callable[[Any], Pending]]:
    """How an evaluator is called here, each time for so many seconds: one by one under a timer, or in watched threads.

    Args:
        call: A method of the evaluator that takes one argument.
        seconds: What one call may take.
        width: Calls that may be under way at once.
    """
    if width == 1 and _has_timer():
        yield lambda item: lambda: _timed(call, item, seconds)
        return
    crew = _Crew(call, seconds)
    try:
        yield crew.ask
    finally:
        crew.dismiss()


def _has_timer() -> bool:
    """Whether this thread may set the interval timer, and a handler that stands already can be put back."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        return False
    return signal.getsignal(signal.SIGALRM) is not None


def _timed(call: Callable[[Any], Any], item: Any, seconds: float) -> Any:
    """Calls in this thread under the interval timer; a timer that someone else has set goes on afterwards."""
    running = True

    def ring(number: int, frame: FrameType | None) -> None:
        if running:
            raise OverdueError

    before, started = signal.signal(signal.SIGALRM, ring), time.monotonic()
    left, every = signal.getitimer(signal.ITIMER_REAL)
    try:
        # It rings again, should a bare `except` of the evaluator swallow the first.
        signal.setitimer(signal.ITIMER_REAL, seconds, _REPEAT)
        try:
            return call(item)
        finally:
            running = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, left - (time.monotonic() - started)), every)


@dataclass
class _Crew:
    """Threads that call the evaluator, each one call at a time. They are daemons: one that never ends does not keep the process."""

    call: Callable[[Any], Any]
    seconds: float
    idle: list[_Worker] = field(default_factory=list)
    everyone: list[_Worker] = field(default_factory=list)

    def ask(self, item: Any) -> Pending:
        """Has a thread begin at once."""
        if not self.idle:
            self.everyone.append(_Worker(self.call))
            self.idle.append(self.everyone[-1])
        worker, end = self.idle.pop(), time.monotonic() + self.seconds
        worker.inbox.put((item,))
        return lambda: self._wait(worker, end)

    def _wait(self, worker: _Worker, end: float) -> Any:
        try:
            value, error = worker.outbox.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            self.everyone.remove(worker)
            worker.stop()
            raise OverdueError from None
        self.idle.append(worker)
        if error is not None:
            raise error
        return value

    def dismiss(self) -> None:
        """Lets the threads end."""
        for worker in self.everyone:
            worker.inbox.put(None)


class _Worker:
    """One thread of the crew."""

    def __init__(self, call: Callable[[Any], Any]) -> None:
        self.inbox: queue.SimpleQueue[tuple[Any] | None] = queue.SimpleQueue()
        self.outbox: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, args=(call,), name="dpoframe-score", daemon=True)
        self._thread.start()

    def _work(self, call: Callable[[Any], Any]) -> None:
        with contextlib.suppress(OverdueError):
            while (task := self.inbox.get()) is not None:
                self.outbox.put(_attempt(call, task[0]))

    def stop(self) -> None:
        """Has Python raise in the thread at its next instruction; what blocks outside Python goes on until it returns."""
        self.inbox.put(None)
        if self._thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread.ident), ctypes.py_object(OverdueError))


def _attempt(call: Callable[[Any], Any], item: Any) -> _Outcome:
    """Calls; whatever it raises is for the thread that waits."""
    try:
        return call(item), None
    except OverdueError:
        raise
    except BaseException as error:
        return None, error
