"""Writing a file so that a reader finds the old one or the new one, whole, whatever happens in between."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from dpoframe.errors import MachineError

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

    Raises:
        MachineError: the disk is full or the folder may not be written; `target` is then as it was.
    """
    aside = target.with_name(f".{target.name}.{os.getpid()}{ASIDE}")
    try:
        with aside.open("wb") as file:
            made = HashingFile(file)
            yield made
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
        sync_folder(target.parent)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        # torch reports a full disk as a RuntimeError of its zip writer
        if isinstance(error, RuntimeError) and not any(part in str(error) for part in ("PytorchStreamWriter", "inline_container")):
            raise
        told = f"{target} could not be written ({reason(error)}). What was there before is intact."
        raise MachineError(f"{told} Make room, or give another place with --out.") from error


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
