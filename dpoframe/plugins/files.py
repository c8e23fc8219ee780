"""Modules made from single files, so that `./mine.py:MyModality` works wherever a name does.

The module's name holds the file's path, and this module finds it like a package finds its parts. So an object of
such a class pickles, and a process that was started afresh (a data-loading worker, a rank) can read it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from dpoframe.errors import PluginError

FILE_TARGET = re.compile(r"(?P<path>.+\.py)(?::(?P<name>[A-Za-z_]\w*))?")

TRUST = "DPOFRAME_TRUST_FILES"
"""The environment variable with folders whose Python files may be run where only a model or an evaluation names them."""

_stranger: ContextVar[str] = ContextVar("stranger", default="")

# With a search path, even an empty one, Python asks the finders below for modules inside this one.
__path__: list[str] = []


class FileFinder(importlib.abc.MetaPathFinder):
    """Finds the modules whose names `module_name` made."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of the file that the name holds, or None for any other module."""
        parent, _, last = fullname.rpartition(".")
        if parent != __name__ or "_0x" not in last:
            return None
        return importlib.util.spec_from_file_location(fullname, bytes.fromhex(last.rpartition("_0x")[2]).decode())


if not any(isinstance(finder, FileFinder) for finder in sys.meta_path):
    sys.meta_path.append(FileFinder())


def is_file_target(name: str) -> bool:
    """Whether a name is a Python file, with or without `:Name` after it."""
    return FILE_TARGET.fullmatch(name) is not None


def split_target(name: str) -> tuple[Path, str]:
    """`./mine.py:Thing` as the absolute path and `Thing` (empty where none is given)."""
    match = FILE_TARGET.fullmatch(name)
    if match is None:
        raise PluginError(f"{name!r} is no file target; one is written './mine.py:MyModality'.")
    return Path(match["path"]).expanduser().resolve(), match["name"] or ""


def module_name(path: Path) -> str:
    """Name of the module made from a file: readable at the start, and the whole path in hexadecimal digits after it."""
    readable = re.sub(r"\W", "_", path.stem)
    return f"{__name__}.{readable}_0x{str(path).encode().hex()}"


@contextlib.contextmanager
def named_by(stranger: str) -> Iterator[None]:
    """Context in which Python files are named by what may come from anyone, such as the record in a model's folder.

    A file that this process runs already is used, and so is one below a folder that `DPOFRAME_TRUST_FILES` names; any other
    is refused. A recipe or suite that a person gives is no stranger.

    Args:
        stranger: What names the files, for the message.
    """
    mark = _stranger.set(stranger)
    try:
        yield
    finally:
        _stranger.reset(mark)


def load_file(path: Path) -> ModuleType:
    """The module made from a file, imported once a process; PluginError where the file is missing, fails, or may not be run."""
    if (stranger := _stranger.get()) and module_name(path) not in sys.modules and not _trusted(path):
        raise PluginError(
            f"{stranger} names the Python file {path}, and code that a model or an evaluation names is not run unasked. "
            f"Read the file; to run it, set {TRUST}={path.parent}"
        )
    if not path.is_file():
        raise PluginError(f"There is no file {path}.")
    try:
        return importlib.import_module(module_name(path))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(f"{path} could not be imported: {describe(error, str(path))}") from error


def _trusted(path: Path) -> bool:
    folders = (Path(one).expanduser() for one in os.environ.get(TRUST, "").split(os.pathsep) if one.strip())
    return any(folder.is_absolute() and path.is_relative_to(folder.resolve()) for folder in folders)


def describe(error: BaseException, file: str = "") -> str:
    """An exception in one line and without secrets; with the line number where it passed through `file`."""
    from dpoframe.config.secrets import scrubbed  # only here: recipes are read with the help of plugins

    text = scrubbed(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    trace, line = error.__traceback__, 0
    while trace is not None:
        line = trace.tb_lineno if file and trace.tb_frame.f_code.co_filename == file else line
        trace = trace.tb_next
    return f"line {line}: {text}" if line else text


def defined_in(module: ModuleType) -> dict[str, Any]:
    """The public classes and functions that a module itself defines, by name."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", "") == module.__name__
    }
