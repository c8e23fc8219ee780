"""The locks that a child puts on itself before it reads the program: limits, capabilities, Landlock, seccomp.

They are prepared once, in the zygote, so that locking is four calls of the kernel. None of them can be taken off again.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from py_landlock.landlock_sys import RulesetFd

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_SIGKILL = 9
_CAPABILITY_VERSION_3 = 0x20080522
_OPEN_FILES = 32


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


class Locks:
    """Locks ready to be put on.

    Args:
        libc: Name of the C library. Inside there is no ldconfig that could be asked.
        instructions: The seccomp filter.
        readable: Files, and folders with all below them, that may be read.
        listed: Folders that may be listed, with those below them, but not read.
        abi: The Landlock version below which to refuse.
    """

    def __init__(self, libc: str, instructions: bytes, readable: Sequence[str], listed: Sequence[str], abi: int) -> None:
        self._libc = ctypes.CDLL(libc, use_errno=True)
        self._instructions = ctypes.create_string_buffer(instructions, len(instructions))
        self._filter = _Program(len(instructions) // 8, ctypes.cast(self._instructions, ctypes.c_void_p))
        # Header and data of capset(): no capability, in none of the three sets.
        self._capabilities = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
        self._ruleset = self._rules(libc, readable, listed, abi)

    def _rules(self, libc: str, readable: Sequence[str], listed: Sequence[str], abi: int) -> RulesetFd:
        """A Landlock ruleset that handles all that this kernel can, and allows reading alone."""
        # py_landlock asks ldconfig where the C library is.
        ctypes.util.find_library = lambda name: libc if name == "c" else None
        from py_landlock import landlock_sys
        from py_landlock.abi import get_supported_fs, get_supported_net, get_supported_scope
        from py_landlock.flags import AccessFs

        self._restrict = landlock_sys.restrict_self
        version = landlock_sys.get_abi_version()
        if version < abi:
            raise OSError(f"Landlock is of version {version} here; this tier needs {abi}")
        handled = landlock_sys.RulesetAttr(
            int(get_supported_fs(version)), int(get_supported_net(version)), int(get_supported_scope(version))
        )
        ruleset = landlock_sys.create_ruleset(handled)
        for paths, access in ((readable, AccessFs.READ_FILE | AccessFs.READ_DIR), (listed, AccessFs.READ_DIR)):
            for path in filter(os.path.exists, paths):  # a link may lead to what is not in here
                found = os.open(path, os.O_PATH | os.O_CLOEXEC)
                rights = access if Path(path).is_dir() else access & AccessFs.READ_FILE
                landlock_sys.add_rule(ruleset, landlock_sys.PathBeneathAttr(int(rights), found))
                os.close(found)
        return ruleset

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Descriptors that `put_on` needs."""
        return (self._ruleset,)

    def put_on(self, limits: Mapping[str, Any]) -> None:
        """Locks this process for good.

        Raises:
            OSError: A lock does not close. Nothing may run then.
        """
        for name, most in _RLIMITS.items():
            resource.setrlimit(getattr(resource, name), (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu_seconds"],) * 2)
        resource.setrlimit(resource.RLIMIT_AS, (limits["memory_bytes"],) * 2)
        self._prctl(_PR_SET_PDEATHSIG, _SIGKILL)
        self._prctl(_PR_SET_DUMPABLE, 0)
        self._checked(self._libc.capset(*map(ctypes.byref, self._capabilities)), "capset")
        self._prctl(_PR_SET_NO_NEW_PRIVS, 1)
        self._restrict(self._ruleset, None)
        os.close(self._ruleset)
        self._prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(self._filter))

    def die_with_parent(self) -> None:
        """Asks the kernel to end this process with the thread that started it."""
        self._prctl(_PR_SET_PDEATHSIG, _SIGKILL)

    def _prctl(self, option: int, value: int, pointer: Any = None) -> None:
        zero = ctypes.c_ulong(0)
        second = zero if pointer is None else pointer
        self._checked(self._libc.prctl(option, ctypes.c_ulong(value), second, zero, zero), f"prctl({option})")

    def _checked(self, result: int, what: str) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{what}: {os.strerror(number)}")


_RLIMITS = {
    "RLIMIT_CORE": 0,
    "RLIMIT_FSIZE": 0,
    "RLIMIT_MEMLOCK": 0,
    "RLIMIT_MSGQUEUE": 0,
    # Void for root; seccomp is what stops new processes.
    "RLIMIT_NPROC": 0,
    "RLIMIT_NOFILE": _OPEN_FILES,
    "RLIMIT_SIGPENDING": 16,
}
