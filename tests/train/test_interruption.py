"""A signal while a run trains, whatever the process does at that moment."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from typing import Any

import pytest

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
