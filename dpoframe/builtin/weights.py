"""Digests of the local weights that settings name, taken once for files that stay as they are."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# What decides a model's answers: weights wherever they lie in its folder, configuration and vocabulary at its top.
_BELOW = ("*.safetensors", "*.bin")
_TOP = ("*.json", "*.jinja", "*.model", "*.txt", "*.gguf")


def digest_of(settings: Any) -> str:
    """Digest of the bytes of all files that the settings name, or that lie in folders they name; empty where they name none.

    It costs one reading of the files a process; a file is read again where its size or time of change is another.
    """
    found = [[str(number), *_named(place)] for number, place in enumerate(_places(settings))]
    return hashlib.blake2b(repr(found).encode(), digest_size=16).hexdigest() if found else ""


def _places(value: Any) -> Iterator[Path]:
    """The files and folders that are there, of all that texts in the settings may name."""
    if isinstance(value, Mapping):
        for _, one in sorted(value.items(), key=lambda item: str(item[0])):
            yield from _places(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _places(one)
    elif isinstance(value, str | Path) and _is_there(value):
        yield Path(value).expanduser()


def _is_there(text: str | Path) -> bool:
    try:
        return bool(str(text)) and Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # a long text, one with a NUL, an unknown home
        return False


def _named(place: Path) -> list[tuple[str, str]]:
    """Name and digest of each file."""
    if place.is_dir():
        files = {*(file for one in _BELOW for file in place.rglob(one)), *(file for one in _TOP for file in place.glob(one))}
    else:
        files = {place}
    return [(str(file.relative_to(place)), _of(file)) for file in sorted(files) if file.is_file()]


def _of(file: Path) -> str:
    state = file.stat()
    return _read(file.resolve(), state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _read(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
