"""Only one process at a time writes to a run folder."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from dpoframe.errors import ConfigError


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Context in which no other process can claim the folder. The system drops the claim of a process that dies.

    The claim is a lock on the folder itself, so no file is left; where the file system has no locks there is no claim.

    Raises:
        ConfigError: another run is writing to the folder.
    """
    number = os.open(folder, os.O_RDONLY) if sys.platform != "win32" else -1
    try:
        _lock(number, folder)
        yield
    finally:
        if number >= 0:
            os.close(number)


def _lock(number: int, folder: Path) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(
            f"Another process is writing to the run in {folder}. Wait until it ends, or give another folder with --out."
        ) from error
    except OSError:  # a network's file system without locks
        return
