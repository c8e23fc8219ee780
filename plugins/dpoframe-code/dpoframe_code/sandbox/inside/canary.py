"""The canary: tries what a program must not. Each function says True where it got through, False where it was held."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

_EPERM = 1


def alive(number: int) -> int:
    """A sandbox must also let honest programs answer."""
    return number * 2


def _held(action: Callable[[], object]) -> bool:
    try:
        action()
    except (OSError, RuntimeError, MemoryError):
        return False
    return True


def reads(path: str) -> bool:
    """Reads a file that is none of its business."""
    return _held(Path(path).read_bytes)


def lists(folder: str) -> bool:
    """Looks into a folder that is none of its business."""
    return _held(lambda: list(Path(folder).iterdir()))


def writes(folder: str) -> bool:
    """Writes to a folder of the machine, to /tmp, to where it stands, and to shared memory."""
    places = (Path(folder, "trace"), Path("/tmp/trace"), Path("trace"), Path("/dev/shm/trace"))
    return any(_held(lambda place=place: place.write_bytes(b"x")) for place in places)  # type: ignore[misc]


def makes_folder(folder: str) -> bool:
    """Makes a folder."""
    return _held(Path(folder, "made").mkdir)


def connects(port: int) -> bool:
    """Reaches a TCP port of the machine."""
    return _held(lambda: socket.create_connection(("127.0.0.1", port), 1))


def connects_unix(path: str) -> bool:
    """Reaches a unix socket of the machine, or gets a socket for UDP."""
    stream, datagrams = (socket.AF_UNIX, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM)
    return _held(lambda: socket.socket(*stream).connect(path)) or _held(lambda: socket.socket(*datagrams))


def signals(pid: int) -> bool:
    """Reaches the tester, or the zygote, with a signal that does nothing."""
    return _held(lambda: os.kill(pid, 0)) or _held(lambda: os.kill(os.getppid(), 0))


def forks() -> bool:
    """Makes a process."""

    def child() -> None:
        if os.fork() == 0:
            os._exit(0)

    return _held(child)


def executes(path: str) -> bool:
    """Becomes another program."""
    return _held(lambda: os.execv(path, [path, "-c", ""]))


def starts_threads() -> bool:
    """Starts a thread."""
    return _held(threading.Thread(target=int).start)


def reads_environment() -> bool:
    """Reads the environment of the process that began the sandbox, or of the zygote."""
    return any(_held(Path(f"/proc/{pid}/environ").read_bytes) for pid in (1, os.getppid()))


def allocates(size: int) -> bool:
    """Takes more memory than it may."""
    return _held(lambda: bytearray(size))


def calls_kernel(numbers: list[int]) -> bool:
    """Calls the kernel by number. Only the filter's own refusal counts: another fault means that the call was looked at."""
    libc = ctypes.CDLL(None, use_errno=True)
    for number in numbers:
        ctypes.set_errno(0)
        if libc.syscall(number, -1, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != _EPERM:
            return True
    return False
