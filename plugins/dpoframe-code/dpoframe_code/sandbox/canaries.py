"""Canary attacks: before the first program, a program of ours tries in the sandbox what a hostile one would.

Each attack says whether it got through, and where it would leave a trace, the trace is looked for outside as well. The
canary itself must answer: a sandbox in which nothing runs at all would otherwise look safe.
"""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dpoframe_code.sandbox import filter as seccomp
from dpoframe_code.sandbox.call import Call
from dpoframe_code.sandbox.launch import interpreter
from dpoframe_code.sandbox.limits import Limits
from dpoframe_code.sandbox.program import Program
from dpoframe_code.sandbox.tier import Tier
from dpoframe_code.sandbox.warm import StartError, WarmZygote

_LIMITS = Limits(cpu_seconds=10, memory_bytes=256 << 20)
_KERNEL = (
    *("ptrace", "process_vm_readv", "kill", "tkill", "tgkill", "clone3", "unshare", "setns", "mount", "chroot", "bpf"),
    *("perf_event_open", "keyctl", "add_key", "io_uring_setup", "userfaultfd", "memfd_create", "openat2", "prctl"),
    *("seccomp", "setrlimit", "setuid", "kexec_load", "init_module"),
)
_SOURCE = Path(__file__).parent / "inside" / "canary.py"


class CanaryError(Exception):
    """Canary attacks got through; the message names them. Nothing may run on this machine then, in no tier."""


def attack(zygote: WarmZygote, tier: Tier) -> None:
    """Attacks a new sandbox.

    Raises:
        CanaryError: Something got through.
        StartError: The canary could not be asked.
        ZygoteError: The zygote died of it.
    """
    with tempfile.TemporaryDirectory(prefix="canary-") as folder, _listeners(folder) as (port, path):
        secret = Path(folder, "secret")
        secret.write_text("secret")
        before = sorted(Path(folder).iterdir())
        through = _asked(zygote, tier, _calls(folder, str(secret), port, path))
        if sorted(Path(folder).iterdir()) != before:
            through.append("a file outside")
    if through:
        raise CanaryError(f"got through: {', '.join(through)}")


def _asked(zygote: WarmZygote, tier: Tier, calls: list[Call]) -> list[str]:
    """Names of the attacks that got through, or that did not come to an end of their own."""
    child = Program(zygote, tier, _LIMITS)
    try:
        loaded = child.load(_SOURCE.read_text(encoding="utf-8"))
        alive = child.call(Call("alive", (21,)))
        if alive.value != 42:
            raise StartError(f"the canary does not answer: {loaded.error or alive.error}")
        return [call.function for call in calls if child.call(call).value is not False]
    finally:
        child.end()


def _calls(folder: str, secret: str, port: int, path: str) -> list[Call]:
    return [
        Call("reads", (secret,)),
        Call("reads", (str(Path(__file__)),)),
        Call("reads", ("/etc/passwd",)),
        Call("lists", (folder,)),
        Call("lists", ("/proc",)),
        Call("writes", (folder,)),
        Call("makes_folder", (folder,)),
        Call("connects", (port,)),
        Call("connects_unix", (path,)),
        Call("signals", (os.getpid(),)),
        Call("forks"),
        Call("executes", (str(interpreter()),)),
        Call("starts_threads"),
        Call("reads_environment"),
        Call("allocates", (_LIMITS.memory_bytes,)),
        Call("calls_kernel", (seccomp.numbers(platform.machine(), _KERNEL),)),
    ]


@contextlib.contextmanager
def _listeners(folder: str) -> Iterator[tuple[int, str]]:
    """Sockets that a program must not reach: the port of one for TCP, the path of a unix one."""
    path = str(Path(folder, "socket"))
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path)
        unix.listen()
        yield tcp.getsockname()[1], path
