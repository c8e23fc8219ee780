"""Ctrl-C, SIGTERM and SIGHUP: the step in hand is finished, the state saved, and only then the run ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, cast

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher

from dpoframe.train.together import greatest

SIGHUP: int | None = getattr(signal, "SIGHUP", None)  # not on Windows
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([] if SIGHUP is None else [SIGHUP]))
PASSED: int | None = getattr(signal, "SIGUSR2", None)
"""What a process that forked the ranks tells them; SIGHUP would not do, since under nohup they ignore it."""
TAKEN = (*SIGNALS, *([] if PASSED is None else [PASSED]))


ONE_REQUEST = 10.0
"""Seconds in which different signals are one request."""


_asked: list[int] = []


def ask_to_end(number: int) -> None:
    """Ends this process's run after its step in hand, as the signal `number` would: for launchers whose processes get none."""
    _asked[:] = [number]


class InterruptedRunError(Exception):
    """Raised at the end of a step, after its state was saved."""

    def __init__(self, number: int, step: int) -> None:
        self.exit_code, self.step = 128 + number, step
        super().__init__(f"interrupted by {signal.Signals(number).name} after step {step}")

    @classmethod
    def told_in(cls, text: str) -> InterruptedRunError | None:
        """The interruption that the traceback of a rank in another process tells of; None where it tells of something else."""
        found = re.search(rf"{cls.__name__}: interrupted by (SIG\w+) after step (\d+)", text)
        return cls(signal.Signals[found[1]], int(found[2])) if found else None


@contextlib.contextmanager
def passed_on(trainer: lightning.Trainer) -> Iterator[list[int]]:
    """Context in which a signal goes to the ranks that this process forks or spawns, which save and end; it waits for them.

    Gives a list that holds the first signal once it came. It is passed on as SIGUSR2, which a rank never takes for an order to end
    at once: a terminal or a scheduler may have sent the signal to the ranks as well. Under every other strategy this process is
    a rank itself, and only has its handlers back in the end.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in TAKEN if signal.getsignal(number) is not signal.SIG_IGN}
    launcher, own = cast(Any, trainer.strategy.launcher), os.getpid()
    interruption = next(one for one in trainer.callbacks if isinstance(one, Interruption))  # type: ignore[attr-defined]
    since = 0.0

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal since
        ranks = [rank.pid for rank in multiprocessing.active_children() if rank.pid is not None]
        ending = interruption.received or interruption.requested
        if os.getpid() != own and ending:  # a rank, after Lightning has put this handler back
            interruption.note(number, frame)
        elif os.getpid() != own or not (ranks or launcher.procs):  # a rank that does not train yet, or there is none
            signal.signal(number, before[number])
            signal.raise_signal(number)
        else:  # ranks that have ended by now had it from whoever sent it
            again, since = bool(received) and time.monotonic() - since > ONE_REQUEST, time.monotonic()
            received.append(number)
            for rank in ranks:
                with contextlib.suppress(OSError):
                    os.kill(rank, number if again or PASSED is None else PASSED)

    for number in before if isinstance(launcher, _MultiProcessingLauncher) else ():
        if number != PASSED:
            signal.signal(number, pass_on)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interruption(Callback):
    """Turns a signal into a flag that all ranks read at the end of each step; `requested` is then the signal's number.

    `unsaved` is 1 there where it is known by then that a checkpoint could not be written in the background of some rank.

    A second signal ends the process as if there were no handler, but for SIGHUP: a terminal that closes sends it twice, from
    the shell and from the system. Where SIGHUP is ignored, as under nohup, it stays so. Another signal within `ONE_REQUEST` is
    the same request, sent to the process group and passed on by whoever started the ranks: it may come when the step is long
    saved, so an interrupted run keeps the signals until its process, or `passed_on`, ends. What is given back are the handlers
    from before the run, never Lightning's, which wait for the other ranks.
    """

    def __init__(self) -> None:
        self.received, self.since = 0, 0.0
        self.requested = self.unsaved = 0
        main = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.getsignal(number) for number in TAKEN} if main else {}
        self._taken: list[int] = []

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Takes the signals over, after Lightning has set its own handlers, which broadcast inside the handler and hang."""
        if threading.current_thread() is threading.main_thread():
            self._taken = [number for number in self._before if number != SIGHUP or self._before[number] is not signal.SIG_IGN]
            for number in self._taken:
                signal.signal(number, self.note)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal."""
        if self.received:
            if number not in (SIGHUP, PASSED) and (number == self.received or time.monotonic() - self.since > ONE_REQUEST):
                self._give_back()
                signal.raise_signal(number)
            return
        self.received, self.since = number, time.monotonic()
        # RuntimeError: the signal came in the middle of another write to a slow terminal or pipe.
        with contextlib.suppress(OSError, RuntimeError):
            sys.stderr.write("\nFinishing this step and saving; once more ends the run at once, from its last checkpoint.\n")

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        """Makes the flag known to all ranks, and in the same exchange whether a checkpoint could not be written on one."""
        unsaved = bool(getattr(trainer.strategy.checkpoint_io, "failed", False))
        self.requested, self.unsaved = greatest([self.received or sum(_asked), int(unsaved)], trainer.strategy)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Gives the signals back."""
        self._give_back()

    def on_exception(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException) -> None:
        """Gives the signals back, unless one of them ends the run."""
        _asked.clear()
        if not isinstance(exception, InterruptedRunError):
            self._give_back()

    def _give_back(self) -> None:
        for number in self._taken:
            signal.signal(number, self._before[number])
        self._taken = []
        _asked.clear()
