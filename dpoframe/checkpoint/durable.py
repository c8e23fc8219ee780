"""Writing a file so that a reader finds the old one or the new one, whole, whatever happens in between."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from dpoframe.errors import ConfigError, MachineError

ASIDE = ".aside"


class HashingFile:
    """A binary file that is written once from front to back and digested on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: Any) -> int:
        """Writes bytes."""
        self.digest.update(data)
        self.size += len(data)
        return self.file.write(data)

    def flush(self) -> None:
        """Hands buffered bytes to the system."""
        self.file.flush()


@contextlib.contextmanager
def durable(target: Path) -> Iterator[HashingFile]:
    """Context with a file that takes the place of `target` at its end: written beside it, flushed to the disk, renamed.

    Whatever ends the context early leaves nothing beside `target`. Of a link it is the file behind it that is written.

    Raises:
        ConfigError: a device, a pipe or a folder lies there.
        MachineError: the disk is full or the folder may not be written; `target` is then as it was.
    """
    target = replaceable(target)
    aside = target.with_name(f".{target.name}.{os.getpid()}{ASIDE}")
    try:
        with aside.open("wb") as file:
            made = HashingFile(file)
            yield made
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
        sync_folder(target.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        if not isinstance(error, OSError | RuntimeError):
            raise
        # torch reports a full disk as a RuntimeError of its zip writer
        if isinstance(error, RuntimeError) and not any(part in str(error) for part in ("PytorchStreamWriter", "inline_container")):
            raise
        told = f"{target} could not be written ({reason(error)}). What was there before is intact."
        raise MachineError(f"{told} Make room, or give another place with --out.") from error


def replaceable(target: Path) -> Path:
    """The file that `target` means, behind links, which a rename may replace or make.

    Raises:
        ConfigError: something else lies there; a rename would put a file in the place of a device or a pipe.
    """
    # Asked of the path itself: what the link of an open pipe leads to has no name of its own.
    if target.exists() and not target.is_file():
        raise ConfigError(f"{target} is not a regular file, so nothing is put in its place. Give the path of a file.")
    return Path(os.path.realpath(target)) if target.is_symlink() else target


def sweep_asides(target: Path) -> None:
    """Removes what earlier writes of `target` left beside it when their processes were killed."""
    place = replaceable(target)
    head = f".{place.name}."
    for left in place.parent.glob(f"{glob.escape(head)}*{ASIDE}"):
        number = left.name.removeprefix(head).removesuffix(ASIDE)
        if number.isdecimal() and _is_gone(int(number)):
            with contextlib.suppress(OSError):
                left.unlink()


def _is_gone(process: int) -> bool:
    """Whether a process of this machine has ended; unknown counts as running."""
    if os.name != "posix":  # elsewhere signal 0 is no question
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def reason(error: BaseException) -> str:
    """The cause in few words."""
    text = str(getattr(error, "strerror", None) or error).splitlines()[0][:200]
    return text if isinstance(error, OSError) else f"most likely a full disk: {text}"


def sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` last through a power cut, where the system can."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
