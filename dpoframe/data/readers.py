"""The data sets that read files: callables whose parameters are their recipe keys, yielding pairs and refused rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from dpoframe.data import json_rows as json_files
from dpoframe.data import table_rows as tables
from dpoframe.data.ahead import Ahead
from dpoframe.data.detection import to_pairs
from dpoframe.data.files import data_files
from dpoframe.data.rows import RawRow
from dpoframe.types import PreferencePair, RefusedRow

Rows = Iterator[PreferencePair | RefusedRow]
Read = Callable[[Path, Ahead], Iterator[RawRow | RefusedRow]]


class SourceRows(Iterator[PreferencePair | RefusedRow]):
    """Pairs and refused rows of a source.

    Args:
        make: Makes them of what is to be left out, which is not known yet when it is called.

    Attributes:
        ahead: Set before the first row is asked for, it leaves out so many rows, which costs little.
    """

    def __init__(self, make: Callable[[Ahead], Rows]) -> None:
        self.ahead = Ahead()
        self._rows = make(self.ahead)

    def __next__(self) -> PreferencePair | RefusedRow:
        """The next row."""
        return next(self._rows)


def _of_files(files: Sequence[Path], read: Read, layout: str, columns: Mapping[str, str] | None) -> Rows:
    """The rows of some files, one file after the other."""
    return SourceRows(lambda ahead: chain.from_iterable(to_pairs(read(file, ahead), layout, columns, ahead) for file in files))


def jsonl(
    path: str | Path | list[str | Path], layout: str = "auto", columns: Mapping[str, str] | None = None, split: str | None = None
) -> Rows:
    """Preferences in JSON Lines or JSON arrays, also compressed with gzip.

    Args:
        path: A file, a folder, a pattern such as `pairs/*.jsonl`, or a list of these.
        layout: `auto` (told for each file), or a name out of `dpoframe.data.layouts.LAYOUTS`.
        columns: The layout's column name to the file's own.
        split: In a folder, the files of this split only (`train.jsonl`, `train-00000.jsonl`, `train/...`).

    Raises:
        DataError: the file is missing, damaged, not text, or its layout cannot be told.
    """
    files = data_files(path, json_files.SUFFIXES, split)
    return _of_files(files, json_files.json_rows, layout, columns)


def csv(
    path: str | Path | list[str | Path],
    layout: str = "auto",
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    delimiter: str | None = None,
) -> Rows:
    """Preferences in CSV with a header, also compressed with gzip; tab-separated where the name ends in .tsv.

    Args and errors as in `jsonl`; `delimiter` is one character.
    """
    files = data_files(path, tables.CSV_SUFFIXES, split)
    return _of_files(files, lambda file, _: tables.csv_rows(file, delimiter), layout, columns)


def parquet(
    path: str | Path | list[str | Path], layout: str = "auto", columns: Mapping[str, str] | None = None, split: str | None = None
) -> Rows:
    """Preferences in Parquet, a few hundred rows in memory at a time. Args and errors as in `jsonl`."""
    files = data_files(path, tables.PARQUET_SUFFIXES, split)
    return _of_files(files, tables.parquet_rows, layout, columns)


def huggingface(
    path: str,
    subset: str | None = None,
    split: str = "train",
    streaming: bool = False,
    revision: str | None = None,
    layout: str = "auto",
    columns: Mapping[str, str] | None = None,
) -> Rows:
    """Preferences that the library `datasets` loads: an id on the Hugging Face hub, or a local folder.

    Args:
        path: `owner/name`, a folder of data files, or a folder that `save_to_disk` wrote.
        subset: The data set's configuration, where it has several.
        split: Its split.
        streaming: Read over the network row by row, keeping nothing on disk.
        revision: A commit, branch or tag of the hub's repository.
        layout: `auto`, or a name out of `dpoframe.data.layouts.LAYOUTS`.
        columns: The layout's column name to the data set's own.

    Raises:
        MissingExtraError: `datasets` is not installed.
        DataError: the data set, subset or split does not exist or cannot be reached.
    """
    from dpoframe.data.hub_rows import hub_rows

    return SourceRows(
        lambda ahead: to_pairs(hub_rows(path, subset, split, streaming, revision, ahead), layout, columns, ahead),
    )
