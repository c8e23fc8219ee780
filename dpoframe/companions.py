"""The processes that share the work of one command: waiting for each other, and knowing when one of them has ended.

Lightning's own watcher kills the first process, without a word, when another one has ended. Here the first is told instead:
what it has made is kept, and the command ends with a message. A process whose first one was killed does not work on alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from dpoframe.errors import DpoframeError, MachineError

Child: TypeAlias = "subprocess.Popen[Any]"

_POLL = 0.02
_LOOK = 0.2
# A fault or a signal often ends all processes at once: each then has a second to say what it has to say itself.
_GRACE = 1.0
_LAST = 30.0
"""Seconds after which a process that a call outside Python holds up is ended as it is."""


class _LostError(BaseException):
    """Raised in the working thread of a process whose companion has ended. No Exception, so that no plugin swallows it."""


class CompanionError(DpoframeError):
    """Another process of the command has ended."""

    def __init__(self) -> None:
        super().__init__("Another process of this command has ended, and so this one ends. It said why, unless it was killed.")


def wait() -> None:
    """Returns when all processes of torch's group have called it. A signal can interrupt it, which a blocked collective is not.

    Raises:
        CompanionError: another process has ended, and so never comes here.
    """
    import torch.distributed as dist

    try:
        work: Any = dist.barrier(async_op=True)
        while not work.is_completed():
            time.sleep(_POLL)
        work.wait()
    except RuntimeError as error:  # gloo's, of a closed connection
        raise CompanionError from error


@contextlib.contextmanager
def watched(started: Callable[[], list[Child]], *, parent: bool = False) -> Iterator[None]:
    """Context that ends with an error when another process of the command has ended, wherever this one stands.

    Args:
        started: Gives Lightning's list of the processes that this one has started. They are taken out of it, so that its
            watcher sees none.
        parent: Whether this process was started by the first one, and is not to outlive it.

    Raises:
        CompanionError: one has ended, or could no longer be waited for.
        MachineError: one was killed.
    """
    watch = _Watch(started, os.getppid() if parent else None)
    try:
        watch.begin()
        try:
            yield
        finally:
            watch.end()
    except (_LostError, CompanionError) as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # it was on its way already
            raise error.__context__ from None
        raise watch.told() from error


class _Watch:
    """A thread that looks after the others while the one that made it works."""

    def __init__(self, started: Callable[[], list[Child]], parent: int | None) -> None:
        self.started, self.parent = started, parent
        self.children: list[Child] = []
        self.worker = threading.get_ident()
        self.over = threading.Event()
        self.lock = threading.Lock()

    def begin(self) -> None:
        """Starts looking."""
        threading.Thread(target=self._look, name="dpoframe-companions", daemon=True).start()

    def end(self) -> None:
        """Ends looking; nothing is raised any more."""
        with self.lock:
            self.over.set()
            self._raise(None)

    def told(self) -> DpoframeError:
        """What to say of the process that has ended."""
        until = time.monotonic() + _GRACE
        while not self._gone() and self.children and time.monotonic() < until:
            time.sleep(_POLL)
        for rank, child in enumerate(self.children, start=1):
            if child.returncode is not None and child.returncode < 0:
                return MachineError(
                    f"Process {rank} was ended from outside ({_named(-child.returncode)}), most likely because memory ran out. "
                    "What was made is kept: the same command goes on from it."
                )
        return CompanionError()

    def _look(self) -> None:
        while not self.over.wait(_LOOK):
            if self._gone():
                break
        if self.over.wait(_GRACE):
            return
        self._raise(_LostError)
        if not self.over.wait(_LAST):
            with contextlib.suppress(OSError):
                sys.stderr.write(f"error: {self.told()}\n")
            os._exit(self.told().exit_code)

    def _gone(self) -> bool:
        """Whether another process has ended as it should not."""
        found = self.started()
        while found:
            self.children.append(found.pop(0))
        ended = [child for child in self.children if child.poll()]
        return bool(ended) or (self.parent is not None and os.getppid() != self.parent)

    def _raise(self, kind: type[BaseException] | None) -> None:
        """Has Python raise in the working thread at its next instruction; None takes it back."""
        if kind is not None:
            with self.lock:
                if self.over.is_set():
                    return
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.worker), ctypes.py_object(kind))
        else:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.worker), None)


def _named(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
