"""Rows of files as they are, for what reads no preferences in them (a suite's prompts), or knows its own way to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from dpoframe.data import json_rows as json_files
from dpoframe.data import table_rows as tables
from dpoframe.data.files import data_files, lines, opened
from dpoframe.data.rows import RawRow
from dpoframe.errors import DataError
from dpoframe.types import RefusedRow

Raw = Iterator[RawRow | RefusedRow]

TEXT_SUFFIXES = (".txt",)


def _jsonl(path: str | list[str], split: str | None = None) -> Raw:
    return chain.from_iterable(map(json_files.json_rows, data_files(path, json_files.SUFFIXES, split)))


def _csv(path: str | list[str], split: str | None = None, delimiter: str | None = None) -> Raw:
    return chain.from_iterable(tables.csv_rows(file, delimiter) for file in data_files(path, tables.CSV_SUFFIXES, split))


def _parquet(path: str | list[str], split: str | None = None) -> Raw:
    return chain.from_iterable(map(tables.parquet_rows, data_files(path, tables.PARQUET_SUFFIXES, split)))


def _text(path: str | list[str]) -> Raw:
    return chain.from_iterable(map(text_rows, data_files(path, TEXT_SUFFIXES)))


def _huggingface(
    path: str, subset: str | None = None, split: str = "test", streaming: bool = False, revision: str | None = None
) -> Raw:
    from dpoframe.data.hub_rows import hub_rows

    return hub_rows(path, subset, split, streaming, revision)


READERS: Mapping[str, Callable[..., Raw]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "parquet": _parquet,
    "text": _text,
    "huggingface": _huggingface,
}
"""Readers of rows by the name of the data set that reads the same files; `text` is one row a line."""

ENDINGS: Mapping[str, str] = {
    **dict.fromkeys(json_files.SUFFIXES, "jsonl"),
    **dict.fromkeys(tables.CSV_SUFFIXES, "csv"),
    **dict.fromkeys(tables.PARQUET_SUFFIXES, "parquet"),
    **dict.fromkeys(TEXT_SUFFIXES, "text"),
}
"""Reader by the end of a file's name."""


def raw_rows(name: str, options: Mapping[str, Any]) -> Raw:
    """The rows that the reader `name` finds.

    Raises:
        DataError: nothing is there, or it is damaged.
        MissingExtraError: `datasets` is not installed.
    """
    return READERS[name](**options)


def read_rows(
    path: str | Path | Sequence[str | Path],
    split: str | None = None,
    *,
    subset: str | None = None,
    streaming: bool = False,
    revision: str | None = None,
) -> Raw:
    """The rows of a source as they are, for a data set that knows what their columns mean.

    Each row has its values by column, its source and its number there, and refuses itself with `row.refuse(code, reason)`.
    A row that cannot be read at all comes as a `RefusedRow`, to be passed on.

    Args:
        path: A file of JSON Lines, a JSON array, CSV or Parquet, a folder or a list of them; or a data set of Hugging Face:
            `hub:owner/name`, `owner/name` where no file is called so, or a folder that `save_to_disk` wrote.
        split: In a folder, the files of this split only (`train.jsonl`, `train-00000.jsonl`, `train/...`). A data set of
            Hugging Face is read for `train` unless another is named.
        subset: The configuration of a data set of Hugging Face, where it has several.
        streaming: Read a data set of the hub over the network row by row, keeping nothing on disk.
        revision: A commit, branch or tag of the hub's repository.

    Pictures, sounds and films in a data set of Hugging Face come as `{"bytes": ..., "path": ...}`, undecoded.

    Raises:
        DataError: nothing is there, or it is damaged, or of no known kind.
        MissingExtraError: `datasets` is needed and not installed.
    """
    from dpoframe.data.sources import Source

    if not isinstance(path, str | Path):
        return chain.from_iterable(read_rows(one, split, subset=subset, streaming=streaming, revision=revision) for one in path)
    source = Source.named(str(path), split=split)
    hub = {"subset": subset, "streaming": streaming, "revision": revision}
    if source.name == "huggingface":
        return raw_rows(source.name, {"split": "train", **source.options, **hub})
    if given := [name for name, value in hub.items() if value]:
        raise DataError(f"{', '.join(given)} was given for {path}, which is no data set of Hugging Face. Leave it out.")
    return raw_rows(source.name, source.options)


def text_rows(path: Path) -> Raw:
    """A row with the column `prompt` for every line that is not blank."""
    with opened(path) as file:
        for number, line in enumerate(lines(file), start=1):
            if line is None:
                yield RefusedRow(str(path), number, "over-long", "The line is too long for a prompt.")
            elif line.strip():
                yield RawRow(str(path), number, {"prompt": line.decode("utf-8", "replace").strip()})
