"""The warm zygote: a single-threaded process that has imported what programs import, and forks a locked child for each.

It is ours and runs no generated code. It takes jobs over a socket, each with three descriptors: the wire, the output and a
status socket. On the status socket it says how the child ended; its end from outside asks for the child to be killed.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import gc
import importlib
import json
import os
import resource
import selectors
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

from dpoframe_code.sandbox.inside import worker
from dpoframe_code.sandbox.inside.locks import Locks

_PRELOADED = """
abc array base64 bisect calendar cmath collections collections.abc contextlib copy dataclasses datetime decimal enum
fractions functools hashlib heapq inspect itertools json math numbers operator queue random re statistics string
struct sys textwrap threading time traceback typing unicodedata uuid zlib
"""


@dataclass(eq=False)
class _Child:
    """A child: its process, the descriptor that tells of its end, and the socket on which to say so."""

    pid: int
    ended: int
    status: socket.socket
    buried: bool = False


class Zygote:
    """The loop of the zygote."""

    def __init__(self, control: socket.socket, locks: Locks) -> None:
        self._pid = os.getpid()
        self._control = control
        self._locks = locks
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._children: set[_Child] = set()

    def serve(self) -> NoReturn:
        """Takes jobs until the control socket closes."""
        while True:
            for key, _ in self._selector.select():
                child = key.data
                if child is None:
                    self._spawn()
                # The end of a child and the wish for it may come together: the second of the two finds it buried.
                elif not child.buried:
                    (self._kill if key.fileobj is child.status else self._bury)(child)

    def _spawn(self) -> None:
        """Takes one job and forks its child."""
        request, descriptors, _, _ = socket.recv_fds(self._control, 1 << 16, 3)
        if not request:
            self._leave()
        wire, output, status = descriptors
        try:
            pid = os.fork()
        except OSError as error:
            os.write(status, json.dumps({"failed": f"fork: {error}"}).encode())
            pid = -1
        if pid == 0:
            worker.main(wire, output, status, self._locks, json.loads(request), self._pid)
        os.close(wire)
        os.close(output)
        if pid < 0:
            os.close(status)
            return
        child = _Child(pid, os.pidfd_open(pid), socket.socket(fileno=status))
        self._children.add(child)
        self._selector.register(child.ended, selectors.EVENT_READ, child)
        self._selector.register(child.status, selectors.EVENT_READ, child)

    def _kill(self, child: _Child) -> None:
        """Someone outside wants the child dead, or is gone."""
        self._selector.unregister(child.status)
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            signal.pidfd_send_signal(child.ended, signal.SIGKILL)

    def _bury(self, child: _Child) -> None:
        """Says how the child ended."""
        _, code, usage = os.wait4(child.pid, 0)
        child.buried = True
        self._children.remove(child)
        self._selector.unregister(child.ended)
        with contextlib.suppress(KeyError):  # unless it was to be killed
            self._selector.unregister(child.status)
        os.close(child.ended)
        told = {"ended": os.waitstatus_to_exitcode(code), "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss}
        with contextlib.suppress(OSError):  # nobody may be waiting any more
            child.status.send(json.dumps(told).encode())
        child.status.close()

    def _leave(self) -> NoReturn:
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(child.ended, signal.SIGKILL)
        os._exit(0)


def _locks(config: dict[str, Any]) -> Locks:
    made = Locks(config["libc"], base64.b64decode(config["filter"]), config["readable"], config["listed"], config["landlock_abi"])
    made.die_with_parent()
    return made


def main(descriptor: int) -> NoReturn:
    """Reads the configuration, prepares the locks, imports, says that it is ready, and serves."""
    control = socket.socket(fileno=fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 5))
    os.close(descriptor)
    config = json.loads(control.recv(1 << 20))
    # Wire and status of a child take 3 and 4: everything of the zygote lies above.
    os.dup2(0, 3)
    os.dup2(0, 4)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A caller may ignore the end of its children, or hold signals back, and what it started would do so as well.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    locks = _locks(config)
    for name in _PRELOADED.split():
        importlib.import_module(name)
    sys.path[:] = config["path"]
    sys.argv[:] = [""]
    importlib.invalidate_caches()
    gc.collect()
    gc.freeze()  # what a child's collector does not touch is not copied
    control.send(b"ready")
    Zygote(control, locks).serve()
