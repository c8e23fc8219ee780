"""The command while its workers train: it shows how far they are, and passes on the wish to end."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeAlias

from rich.console import Console
from rich.progress import Progress

from dpoframe.errors import MachineError
from dpoframe.train.interruption import ONE_REQUEST, SIGHUP, SIGNALS
from dpoframe.train.progress import LINE_EVERY, make_bar
from dpoframe.train.watch import warn

Shown: TypeAlias = Callable[[str, int, int], None]

POLL = 0.3
SLOW_START = 120.0
"""Seconds after which it is said that workers have not started."""


def watched(run: Callable[[], Any], board: Any, progress: Shown | None = None) -> BaseException | None:
    """Does `run` in a thread, so that signals arrive here; returns what it raised, or at once where a worker's error is final.

    Args:
        run: Returns when all workers are done.
        board: Where progress is read, and the first signal is passed on to.
        progress: Shows it, in place of the bar.
    """
    import ray

    raised: list[BaseException] = []

    def go() -> None:
        try:
            run()
        except BaseException as error:
            raised.append(error)

    # A daemon: where the command ends at once, nobody waits for it.
    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    with requests() as received, shown(progress) as show:
        passed_on, tries, since = False, 1, time.monotonic()
        while thread.is_alive():
            thread.join(POLL)
            try:
                if received and not passed_on:
                    board.interrupt.remote(received[0])
                    passed_on = True
                notes = ray.get(board.read.remote())
            except ray.exceptions.RayError as error:
                raise MachineError(f"The Ray cluster does not answer any more ({type(error).__name__}).") from error
            if notes.error is not None and notes.error.final:
                break  # Ray would try again
            if not notes.tries and time.monotonic() - since > SLOW_START:
                since = math.inf
                warn(f"No worker has started after {SLOW_START:.0f} s. Ray may be waiting for room on the cluster: see ray status.")
            if notes.tries > tries:
                tries = notes.tries
                warn(f"A worker was lost. All are started again, for try {tries}, and go on from the last checkpoint.")
            if notes.stage[0]:
                show(*notes.stage)
    return raised[0] if raised else None


@contextlib.contextmanager
def requests() -> Iterator[list[int]]:
    """Context in which the first signal to end is noted; a later one ends the command at once, as if there were no handler.

    Another signal within a second is the same request, and so is a second SIGHUP.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    since = [0.0]
    before = {number: signal.getsignal(number) for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}

    def note(number: int, frame: FrameType | None) -> None:
        if not received:
            received.append(number)
            since[0] = time.monotonic()
            with contextlib.suppress(OSError):
                sys.stderr.write("\nFinishing this step and saving; once more ends the run at once, from its last checkpoint.\n")
        elif number != SIGHUP and time.monotonic() - since[0] > ONE_REQUEST:
            signal.signal(number, before[number])
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def shown(progress: Shown | None) -> Iterator[Shown]:
    """Context with what shows progress: the caller's own, a bar on a terminal, else a line now and then."""
    console = Console(stderr=True)
    if progress is not None:
        yield progress
    elif console.is_terminal:
        with make_bar(console) as bar:
            yield _on(bar)
    else:
        yield _in_lines(console)


def _on(bar: Progress) -> Shown:
    """One line of the bar a stage."""
    tasks: dict[str, Any] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bar.add_task(stage, total=total, shown="")
        bar.update(tasks[stage], completed=done, total=total)

    return show


def _in_lines(console: Console) -> Shown:
    last: list[Any] = ["", time.monotonic(), -1]

    def show(stage: str, done: int, total: int) -> None:
        stage_before, told, done_before = last
        due = stage != stage_before or time.monotonic() - told > LINE_EVERY or (done == total and done != done_before)
        if due:
            last[:] = [stage, time.monotonic(), done]
            with contextlib.suppress(OSError):
                console.print(f"{stage} {done} of {total}", highlight=False)

    return show
