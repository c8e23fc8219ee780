"""SIGTERM and SIGHUP, as batch systems and closing terminals send them: the command unwinds as after Ctrl-C, and leaves
nothing half-written.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = tuple(number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None)
"""What is taken: SIGHUP where the system has it."""


class Terminated(KeyboardInterrupt):
    """A signal asked the process to end; `number` is the signal's."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.number = number


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Context in which SIGTERM and SIGHUP raise `Terminated` in this process, where nobody else has taken or ignores them."""
    main = threading.current_thread() is threading.main_thread()
    taken = [number for number in SIGNALS if main and signal.getsignal(number) is signal.SIG_DFL]
    process = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        forked = os.getpid() != process  # a worker: it ends as if there were no handler
        # A terminal that closes sends SIGHUP twice, from the shell and from the system: the second must not end the unwinding.
        hangs_up = number != signal.SIGTERM and not forked
        signal.signal(number, signal.SIG_IGN if hangs_up else signal.SIG_DFL)
        if forked:
            signal.raise_signal(number)
        raise Terminated(number)

    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
