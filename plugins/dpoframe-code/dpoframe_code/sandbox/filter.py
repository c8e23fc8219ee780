"""The seccomp filter: which calls of the kernel a program may make.

An allow-list: what is not named here fails with EPERM, what comes through another architecture's table ends the process.
libseccomp knows the numbers of each architecture and writes the check of the architecture itself. The filter is written
out here, outside, and installed inside, where there is no libseccomp.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Iterable
from types import ModuleType

ARCHITECTURES = ("x86_64", "aarch64")
"""Machines on which the filter was thought through; on others the sandbox refuses."""

_MEMORY = "brk mmap munmap mprotect mremap madvise"
_FILES = (
    "read readv pread64 write writev close lseek fstat newfstatat stat lstat statx access faccessat faccessat2 "
    "getdents64 getcwd dup dup2 dup3 poll ppoll select pselect6"
)
_TIME = "nanosleep gettimeofday time times getrusage setitimer getitimer alarm"
_CLOCKS = "clock_gettime clock_getres clock_nanosleep"
_SELF = (
    "getpid getppid gettid getuid geteuid getgid getegid getgroups getpgrp uname sysinfo getrandom getcpu "
    "sched_yield exit exit_group restart_syscall"
)
_SIGNALS = "rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait sigaltstack pause"
# Event loops: each end stays in the process, for nothing here takes an address or passes a descriptor on.
_LOOPS = "pipe eventfd2 epoll_create1 epoll_ctl epoll_wait epoll_pwait getsockname getpeername"

_AF_UNIX = 1
# Clocks of other processes have negative numbers, which are above all of these where no sign is seen.
_COMMON_CLOCKS = 12
_F_DUPFD, _F_GETFD, _F_SETFD, _F_GETFL, _F_DUPFD_CLOEXEC = 0, 1, 2, 3, 1030
# Of futex, what single-threaded programs use: the others have been a way into the kernel before.
_FUTEX_WAIT, _FUTEX_WAKE, _FUTEX_WAIT_BITSET, _FUTEX_WAKE_BITSET, _FUTEX_OPERATION = 0, 1, 9, 10, 0x7F
_O_NONBLOCK, _O_CLOEXEC, _ALL_BITS = 0o4000, 0o2000000, (1 << 64) - 1
# What event loops and the making of a socket object ask. SO_PEERPIDFD would hand out a descriptor of the tester's process.
_SOL_SOCKET, _SO_TYPE, _SO_ERROR, _SO_ACCEPTCONN, _SO_PROTOCOL, _SO_DOMAIN = 1, 3, 4, 30, 38, 39
_TCGETS, _FIONBIO, _FIONCLEX, _FIOCLEX = 0x5401, 0x5421, 0x5450, 0x5451


def write_flags(architecture: str) -> int:
    """The bits of open() of which a program may set none: writing, making, truncating, and paths without reading."""
    # O_ACCMODE, O_CREAT, O_TRUNC, O_APPEND, __O_TMPFILE and O_PATH have one value on both architectures.
    assert architecture in ARCHITECTURES
    return 0o3 | 0o100 | 0o1000 | 0o2000 | 0o20000000 | 0o10000000


def compiled(architecture: str) -> bytes:
    """The filter as BPF instructions for one of `ARCHITECTURES`.

    Raises:
        ImportError: pyseccomp is not installed.
        RuntimeError: libseccomp is not on the machine.
        ValueError: Another architecture.
    """
    import pyseccomp  # type: ignore[import-untyped]

    if architecture not in ARCHITECTURES:
        raise ValueError(f"no filter for {architecture!r}; it is written for {', '.join(ARCHITECTURES)}")
    made = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    wanted = {"x86_64": pyseccomp.Arch.X86_64, "aarch64": pyseccomp.Arch.AARCH64}[architecture]
    if wanted != pyseccomp.system_arch():
        made.add_arch(wanted)
        made.remove_arch(pyseccomp.Arch.NATIVE)
    made.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.KILL_PROCESS)
    _allow(pyseccomp, made.add_rule, write_flags(architecture))
    with tempfile.TemporaryFile() as file:
        made.export_bpf(file)
        file.seek(0)
        return file.read()


def _allow(library: ModuleType, add: Callable[..., None], writing: int) -> None:
    """Adds the rules. Names that an architecture lacks have no number there, and libseccomp leaves them out."""

    def only(name: str, argument: int, value: int, mask: int | None = None) -> None:
        test = (library.EQ, value) if mask is None else (library.MASKED_EQ, mask, value)
        add(library.ALLOW, name, library.Arg(argument, *test))

    def option(number: int) -> None:
        add(library.ALLOW, "getsockopt", library.Arg(1, library.EQ, _SOL_SOCKET), library.Arg(2, library.EQ, number))

    for name in " ".join((_MEMORY, _FILES, _TIME, _SELF, _SIGNALS, _LOOPS)).split():
        add(library.ALLOW, name)
    only("open", 1, 0, writing)
    only("openat", 2, 0, writing)
    # Owners and leases of descriptors send signals to other processes: F_SETOWN, F_SETLEASE, F_NOTIFY stay out.
    for command in (_F_DUPFD, _F_GETFD, _F_SETFD, _F_GETFL, _F_DUPFD_CLOEXEC):
        only("fcntl", 1, command)
    for request in (_TCGETS, _FIONBIO, _FIONCLEX, _FIOCLEX):
        only("ioctl", 1, request)
    for number in (_SO_TYPE, _SO_ERROR, _SO_ACCEPTCONN, _SO_PROTOCOL, _SO_DOMAIN):
        option(number)
    for operation in (_FUTEX_WAIT, _FUTEX_WAKE, _FUTEX_WAIT_BITSET, _FUTEX_WAKE_BITSET):
        only("futex", 1, operation, _FUTEX_OPERATION)
    only("pipe2", 1, 0, _ALL_BITS ^ (_O_CLOEXEC | _O_NONBLOCK))  # not the notification pipes of the kernel
    # Of this process alone: what is said of another tells that it runs. Limits are read, not set.
    only("sched_getaffinity", 0, 0)
    add(library.ALLOW, "prlimit64", library.Arg(0, library.EQ, 0), library.Arg(2, library.EQ, 0))
    for name in _CLOCKS.split():
        add(library.ALLOW, name, library.Arg(0, library.LT, _COMMON_CLOCKS))
    only("socketpair", 0, _AF_UNIX)
    only("sendto", 4, 0)  # with an address it would reach sockets of the machine
    only("recvfrom", 4, 0)


def numbers(architecture: str, names: Iterable[str]) -> list[int]:
    """Numbers of calls of the kernel by name; names that the architecture lacks are left out."""
    import pyseccomp

    wanted = {"x86_64": pyseccomp.Arch.X86_64, "aarch64": pyseccomp.Arch.AARCH64}[architecture]
    found = (pyseccomp.resolve_syscall(wanted, name) for name in names)
    return [number for number in found if number >= 0]
