"""One progress bar, with the time left, over a story of several stages of unlike cost."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from dpoframe.cli import output

LINE_EVERY = 20.0
"""Where stderr is no terminal a line is printed this often, in seconds."""


class Story:
    """Shows how far the whole is, and how long it will still take.

    Args:
        stages: What each stage is expected to cost against the others; the pace is measured as it goes.
    """

    def __init__(self, stages: Mapping[str, float]) -> None:
        self.stages = dict(stages)
        self.done = dict.fromkeys(stages, 0.0)
        self.started = time.monotonic()
        self.told = self.started
        self.paced: tuple[float, float] | None = None
        self.bar: Any = None
        self.task: Any = None

    def __enter__(self) -> Story:
        if sys.stderr.isatty() and not output.other_rank():  # one bar for all processes
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (
                TextColumn("{task.description:<28}"),
                BarColumn(bar_width=36),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
            )
            self.bar = Progress(*columns, console=output.console(sys.stderr), transient=True)
            self.task = self.bar.add_task("loading the model", total=sum(self.stages.values()), left="")
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar is not None:
            with contextlib.suppress(OSError):  # the terminal may be gone
                self.bar.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """The progress of one stage; stages that were not expected are passed over."""
        if stage not in self.stages or total <= 0:
            return
        self._close_earlier(stage)
        self.done[stage] = done / total
        spent = sum(self.stages[name] * share for name, share in self.done.items())
        # The pace counts from the first word of progress: loading the model is no stage.
        now = time.monotonic()
        if self.paced is None:
            self.paced = (now, spent)
        left = self._left(now, spent)
        self._show(f"{stage.replace('/', ': ')} {done} of {total}", spent, left, now)

    def _close_earlier(self, stage: str) -> None:
        for name in self.stages:
            if name == stage:
                return
            self.done[name] = 1.0

    def _left(self, now: float, spent: float) -> float | None:
        assert self.paced is not None
        start, before = self.paced
        if spent - before < 0.02 * sum(self.stages.values()):
            return None
        return (now - start) / (spent - before) * (sum(self.stages.values()) - spent)

    def _show(self, what: str, spent: float, left: float | None, now: float) -> None:
        told = "" if left is None else f"about {_clock(left)} left"
        if self.bar is not None:
            self.bar.update(self.task, description=what, completed=spent, left=told)
        elif now - self.told >= LINE_EVERY:
            self.told = now
            output.say(f"{100 * spent / sum(self.stages.values()):3.0f} %  {what}  {told}".rstrip())


def _clock(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02d}"
