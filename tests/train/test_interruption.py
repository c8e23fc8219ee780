"""A signal while a run trains, whatever the process does at that moment."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.fabric.utilities.rank_zero import rank_zero_only

from dpoframe import hookimpl
from dpoframe.config import Recipe
from dpoframe.plugins import PluginHost
from dpoframe.train.fit import fit
from dpoframe.train.interruption import Interruption


def test_a_signal_in_the_middle_of_a_write_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a write to stderr waits for a slow reader and the signal comes, the request is noted and the write goes on."""
    reader, writer = os.pipe()
    stream = io.TextIOWrapper(os.fdopen(writer, "wb"), write_through=True)
    monkeypatch.setattr(sys, "stderr", stream)
    asked, any_part = Interruption(), Any
    asked.on_train_start(any_part, any_part)  # type: ignore[arg-type]
    read: list[int] = []

    def read_all() -> None:
        while piece := os.read(reader, 1 << 16):
            read.append(len(piece))

    late = threading.Timer(1.0, read_all)
    ring = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    try:
        late.start()
        ring.start()
        stream.write("x" * (1 << 20))  # more than a pipe holds: waits in the middle
    finally:
        asked.on_train_end(any_part, any_part)  # type: ignore[arg-type]
        stream.close()
        late.join()
        os.close(reader)
    assert asked.received == signal.SIGTERM
    assert sum(read) >= 1 << 20


class Ending:
    """In its third step the first rank sends SIGTERM to itself and to whoever forked it, as a scheduler does to all of a run."""

    @hookimpl
    def dpoframe_pair_metrics(self, stage: str, step: int) -> None:
        """Sends it."""
        if stage == "train" and step == 2 and multiprocessing.parent_process() is not None and rank_zero_only.rank == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getppid(), signal.SIGTERM)


@pytest.mark.parametrize(("late", "nohup"), [(0.0, False), (0.2, False), (2.0, False), (0.02, True), (0.1, True)])
def test_a_signal_that_is_passed_on_late(
    late: float, nohup: bool, make_recipe: Callable[..., Recipe], host: PluginHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes until a rank has it again, saving, ending or gone, the run ends after its step; so under nohup."""
    children = multiprocessing.active_children

    def slow() -> list[Any]:
        time.sleep(late)
        return children()

    host.register(Ending(), "ending")
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN) if nohup else signal.getsignal(signal.SIGHUP)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    monkeypatch.setattr("dpoframe.train.interruption.multiprocessing", SimpleNamespace(active_children=slow))
    recipe = make_recipe(
        "trainer.devices=2", "trainer.strategy=ddp_fork", "trainer.max_steps=40", plugins=["toy", "parts", "ending"]
    )
    ended = fit(recipe, tmp_path / "run", host=host)
    assert (ended.status, ended.exit_code, ended.steps) == ("interrupted", 128 + signal.SIGTERM, 3)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers
    signal.signal(signal.SIGHUP, hangup)
