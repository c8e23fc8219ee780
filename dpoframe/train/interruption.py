"""Ctrl-C, SIGTERM and SIGHUP: the step in hand is finished, the state saved, and only then the run ends."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from types import FrameType
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

SIGHUP: int | None = getattr(signal, "SIGHUP", None)  # not on Windows
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([] if SIGHUP is None else [SIGHUP]))


class InterruptedRunError(Exception):
    """Raised at the end of a step, after its state was saved."""

    def __init__(self, number: int, step: int) -> None:
        self.exit_code, self.step = 128 + number, step
        super().__init__(f"interrupted by {signal.Signals(number).name} after step {step}")


class Interruption(Callback):
    """Turns a signal into a flag that all ranks read at the end of each step; `requested` is then the signal's number.

    A second signal ends the process as if there were no handler, but for SIGHUP: a terminal that closes sends it twice, from
    the shell and from the system. Where SIGHUP is ignored, as under nohup, it stays so.
    """

    def __init__(self) -> None:
        self.received = 0
        self.requested = 0
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Takes the signals over, after Lightning has set its own handlers, which broadcast inside the handler and hang."""
        if threading.current_thread() is threading.main_thread():
            taken = [number for number in SIGNALS if number != SIGHUP or signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in taken}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            if number == SIGHUP:
                return
            self._give_back()
            signal.raise_signal(number)
            return
        self.received = number
        with contextlib.suppress(OSError):
            sys.stderr.write("\nFinishing this step and saving; once more ends the run at once, from its last checkpoint.\n")

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        """Makes the flag known to all ranks."""
        self.requested = self.received
        if trainer.world_size > 1:
            flag = torch.tensor(self.received, device=trainer.strategy.root_device)
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
