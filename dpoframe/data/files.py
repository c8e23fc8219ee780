"""Files of preference data: which ones a path means, opening them, and writing them whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import gzip
import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, BinaryIO, cast

from dpoframe.errors import DataError, MachineError

MAX_ROW_BYTES = 8 * 2**20
"""Rows larger than this are refused as `over-long`, so that one line without an end cannot fill the memory."""

_FOREIGN = {
    b"PAR1": "a Parquet file; read it with `name: parquet`",
    b"PK\x03\x04": "a ZIP archive; unpack it first",
    b"\xff\xfe": "UTF-16 text; convert it to UTF-8, for example with `iconv -f UTF-16 -t UTF-8`",
    b"\xfe\xff": "UTF-16 text; convert it to UTF-8, for example with `iconv -f UTF-16 -t UTF-8`",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive; unpack it first",
    b"BZh": "a bzip2 archive; unpack it first",
    b"\xfd7zXZ": "an xz archive; unpack it first",
    b"ARROW1": "an Arrow file; read its folder with `name: huggingface`",
}
BOM = b"\xef\xbb\xbf"


def data_files(path: str | Path | Sequence[str | Path], suffixes: Sequence[str], split: str | None = None) -> list[Path]:
    """The files that `path` means: itself, each of a list, or those of a folder whose names end in `suffixes`, sorted.

    A path with `*`, `?` or `[...]` that is not there itself is a pattern of file names; `**` stands for any number of folders.
    `split` keeps the files of a folder whose names are the split's or begin with it (`train.jsonl`,
    `train-00000-of-00002.parquet`).

    Raises:
        DataError: nothing is there, or nothing of the wanted kind or split.
    """
    if not isinstance(path, str | Path):
        return [file for one in path for file in data_files(one, suffixes, split)]
    place = Path(path).expanduser()
    if place.is_dir():
        return _files_of_folder(place, suffixes, split)
    if is_pattern(place):
        return _fitting(place, split)
    if not place.exists():
        near = ", ".join(sorted(item.name for item in place.parent.iterdir())[:8]) if place.parent.is_dir() else ""
        there = f"{place.parent} holds: {near}." if near else f"The folder {place.parent} does not exist or is empty."
        raise DataError(f"{place} does not exist (looked for from {Path.cwd()}). {there}")
    if not place.is_file():  # opening a pipe would wait for a writer
        raise DataError(f"{place} is no regular file: data is read more than once. Write what it gives to a file first.")
    if split is not None:
        raise DataError(
            f"split {split!r} was given with the single file {place}. Leave split out, or give the folder of the splits."
        )
    return [place]


def is_pattern(path: Path) -> bool:
    """Whether a path is a pattern of file names, and not there itself."""
    return glob.has_magic(str(path)) and not path.exists()


def _fitting(pattern: Path, split: str | None) -> list[Path]:
    if split is not None:
        raise DataError(f"split {split!r} was given with the pattern {pattern}. Leave split out, and let the pattern choose.")
    # Not Path.glob, which takes no absolute pattern and finds hidden files.
    found = sorted(file for file in map(Path, glob.glob(str(pattern), recursive=True)) if file.is_file())  # noqa: PTH207
    if not found:
        raise DataError(f"No file fits {pattern} (looked for from {Path.cwd()}). Check the folder and the pattern.")
    return found


def _files_of_folder(folder: Path, suffixes: Sequence[str], split: str | None) -> list[Path]:
    fitting = sorted(file for file in folder.rglob("*") if file.is_file() and file.name.lower().endswith(tuple(suffixes)))
    if not fitting:
        raise DataError(f"The folder {folder} holds no file that ends in {', '.join(suffixes)}.")
    if split is None:
        return fitting
    chosen = [file for file in fitting if _of_split(file.relative_to(folder), split)]
    if not chosen:
        raise DataError(
            f"No file of {folder} belongs to split {split!r}. It holds: {', '.join(file.name for file in fitting[:8])}."
        )
    return chosen


def _of_split(file: Path, split: str) -> bool:
    head = file.name.split(".")[0]
    return split in file.parts[:-1] or head == split or head.startswith((f"{split}-", f"{split}_"))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Opens text to read as bytes, through gzip where its content is gzip, past a byte-order mark.

    Raises:
        DataError: the content is of another kind, or the gzip stream is damaged or cut off.
        MachineError: the file may not be read.
    """
    with reading(path), contextlib.ExitStack() as stack:
        file = cast("IO[bytes]", stack.enter_context(path.open("rb")))
        head = file.read(2)
        file.seek(0)
        if head == b"\x1f\x8b":
            file = cast("IO[bytes]", stack.enter_context(gzip.GzipFile(fileobj=file)))
        _check_head(path, file.read(4096))
        file.seek(0)
        if file.read(3) != BOM:
            file.seek(0)
        yield cast("BinaryIO", file)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what the system says about an unreadable file into one clear error."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a damaged or cut-off gzip file ({error}). Fetch it again; `gzip -t` tests it.") from error
    except PermissionError as error:
        raise MachineError(f"{path} may not be read by this user. Change its permissions, or copy it.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _check_head(path: Path, head: bytes) -> None:
    for magic, meaning in _FOREIGN.items():
        if head.startswith(magic):
            raise DataError(f"{path} is not text: it is {meaning}.")
    if b"\0" in head:
        raise DataError(
            f"{path} is not text: it holds NUL bytes. Readable are JSON Lines, JSON arrays, CSV (all also as .gz) and Parquet."
        )


def lines(file: BinaryIO) -> Iterator[bytes | None]:
    """The lines of an open file with their line ends; None for a line of more than `MAX_ROW_BYTES`."""
    while line := file.readline(MAX_ROW_BYTES + 1):
        if len(line) <= MAX_ROW_BYTES:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(2**20)
        yield None


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; renamed to `path` on success, removed on failure.

    Raises:
        MachineError: the disk is full or the folder may not be written.
    """
    if path.exists() and not path.is_file():  # a rename would put a file in the place of a device or a pipe
        raise MachineError(f"{path} is not a regular file, so nothing is put in its place. Give the path of a file.")
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _sync(temporary)
        # mkstemp makes files that only the owner may read; the result gets what the user's umask allows.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        fix = "Free some space." if error.errno == errno.ENOSPC else "Give another place or change the permissions."
        raise MachineError(f"{path} cannot be written: {error.strerror or error}. {fix}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
