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
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

SIGHUP: int | None = getattr(signal, "SIGHUP", None)  # not on Windows
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([] if SIGHUP is None else [SIGHUP]))


ONE_REQUEST = 1.0
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

    Under every other strategy this process is a rank itself, and nothing is changed. Gives a list that holds the first signal
    once it came. It is passed on as SIGHUP, of which a rank takes no second one for an order to end at once: a terminal or a
    scheduler may have sent the signal to the ranks as well.
    """
    received: list[int] = []
    launcher = getattr(trainer.strategy, "launcher", None)
    if not hasattr(launcher, "procs") or threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}

    def pass_on(number: int, frame: FrameType | None) -> None:
        ranks = [rank.pid for rank in multiprocessing.active_children() if rank.pid is not None]
        if not ranks:  # also in a rank itself, before it trains
            signal.signal(number, before[number])
            signal.raise_signal(number)
        received.append(number)
        for rank in ranks:
            with contextlib.suppress(OSError):
                os.kill(rank, SIGHUP if SIGHUP in before else number)

    for number in before:
        signal.signal(number, pass_on)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interruption(Callback):
    """Turns a signal into a flag that all ranks read at the end of each step; `requested` is then the signal's number.

    A second signal ends the process as if there were no handler, but for SIGHUP: a terminal that closes sends it twice, from
    the shell and from the system. Where SIGHUP is ignored, as under nohup, it stays so. Another signal within a second is the
    same request, sent to the process group and passed on by whoever started the ranks.
    """

    def __init__(self) -> None:
        self.received, self.since = 0, 0.0
        self.requested = 0
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Takes the signals over, after Lightning has set its own handlers, which broadcast inside the handler and hang."""
        if threading.current_thread() is threading.main_thread():
            taken = [number for number in SIGNALS if number != SIGHUP or signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in taken}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            if number == SIGHUP or (number != self.received and time.monotonic() - self.since < ONE_REQUEST):
                return
            self._give_back()
            signal.raise_signal(number)
            return
        self.received, self.since = number, time.monotonic()
        # RuntimeError: the signal came in the middle of another write to a slow terminal or pipe.
        with contextlib.suppress(OSError, RuntimeError):
            sys.stderr.write("\nFinishing this step and saving; once more ends the run at once, from its last checkpoint.\n")

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        """Makes the flag known to all ranks."""
        self.requested = self.received or sum(_asked)
        if trainer.world_size > 1:
            flag = torch.tensor(self.requested, device=trainer.strategy.root_device)
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
            self.requested = int(flag)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Gives the signals back."""
        self._give_back()

    def on_exception(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException) -> None:
        """Gives the signals back."""
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        _asked.clear()
