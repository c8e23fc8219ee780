"""The progress bar: on stderr, with the time left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import lightning
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Told: TypeAlias = Callable[[str, int, int], None]
"""`told(stage, done, total)`: the progress of a caller that shows it itself."""

# Where stderr is no terminal a line is printed this often, in seconds.
LINE_EVERY = 30.0


def make_bar(console: Console) -> Progress:
    """A bar with count, time so far and time left."""
    left = TimeRemainingColumn(elapsed_when_finished=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), left)
    return Progress(*columns, TextColumn("{task.fields[shown]}"), console=console, transient=False)


class ProgressBar(Callback):
    """Shows steps done, time left, loss and reward accuracy."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.console = Console(stderr=True)
        self.bar: Progress | None = None
        self.task: Any = None
        self.started = self.told = 0.0
        self.first = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Starts the bar on rank 0."""
        self.started = self.told = time.monotonic()
        self.first = trainer.global_step
        if trainer.is_global_zero and self.console.is_terminal:
            self.bar = make_bar(self.console)
            self.task = self.bar.add_task("training", total=self.steps, completed=self.first, shown="")
            self.bar.start()

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, *args: Any) -> None:
        """Moves it on."""
        row, done = outputs["row"], trainer.global_step
        shown = f"loss {row['loss']:.4f}  accuracy {row['rewards/accuracies']:.2f}"
        if self.bar is not None:
            self.bar.update(self.task, completed=done, shown=shown)
        elif trainer.is_global_zero and (time.monotonic() - self.told > LINE_EVERY or done == self.steps):
            self.told = time.monotonic()
            left = (self.told - self.started) / max(1, done - self.first) * (self.steps - done)
            with contextlib.suppress(OSError):  # a full disk under the log ends no run
                self.console.print(f"step {done} of {self.steps}  {shown}  about {left:.0f} s left", highlight=False)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Takes the bar away."""
        self._stop()

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Takes the bar away."""
        self._stop()

    def _stop(self) -> None:
        bar, self.bar = self.bar, None
        if bar is not None:
            with contextlib.suppress(OSError):  # the terminal may be gone
                bar.stop()


class Telling(Callback):
    """Tells the caller of every step, in place of the bar."""

    def __init__(self, steps: int, told: Told) -> None:
        self.steps, self.told = steps, told

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        """Tells it on rank 0."""
        if trainer.is_global_zero:
            self.told("train", trainer.global_step, self.steps)
