"""Rows of tables: CSV and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dpoframe.data.ahead import Ahead
from dpoframe.data.files import MAX_ROW_BYTES, lines, opened, reading
from dpoframe.data.rows import RawRow, shown
from dpoframe.errors import DataError
from dpoframe.types import RefusedRow

CSV_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
PARQUET_SUFFIXES = (".parquet",)
_BATCH_ROWS = 256


def csv_rows(path: Path, delimiter: str | None = None) -> Iterator[RawRow | RefusedRow]:
    """Records of a CSV file with a header (RFC 4180); empty fields are None. Records count from 1 after the header.

    `delimiter` is a tab for .tsv and a comma otherwise, unless given.
    """
    separator = delimiter or ("\t" if ".tsv" in path.name.lower() else ",")
    with opened(path) as file:
        # The limit belongs to the process. It bounds what an unclosed quote can swallow.
        csv.field_size_limit(MAX_ROW_BYTES)
        text = ("" if line is None else line.decode("utf-8", "surrogateescape") for line in lines(file))
        records = csv.reader(text, delimiter=separator, strict=True)
        header = _header(next(_records(records), []), path)
        for number, record in enumerate(_records(records), start=1):
            yield _csv_row(str(path), number, header, record)


def _records(reader: Any) -> Iterator[list[str] | csv.Error]:
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield error
            continue
        if record:
            yield record


def _header(record: list[str] | csv.Error, path: Path) -> list[str]:
    if isinstance(record, csv.Error) or not any(name.strip() for name in record):
        raise DataError(f"{path} has no header: the first line must name the columns, separated by commas.")
    names = [name.strip() for name in record]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path}: the header names {', '.join(map(repr, twice))} twice.")
    return names


def _csv_row(source: str, number: int, header: list[str], record: list[str] | csv.Error) -> RawRow | RefusedRow:
    if isinstance(record, csv.Error):
        code = "over-long" if "field limit" in str(record) else "invalid-csv"
        return RefusedRow(source, number, code, f"The record cannot be read: {record}.")
    if len(record) != len(header):
        return RefusedRow(source, number, "invalid-csv", f"The record has {len(record)} fields, the header {len(header)}.")
    return RawRow(source, number, {name: value or None for name, value in zip(header, record, strict=True)})


def parquet_rows(path: Path, ahead: Ahead | None = None) -> Iterator[RawRow | RefusedRow]:
    """Rows of a Parquet file, a few hundred in memory at a time; row groups that `ahead` leaves out are not read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        # With pre_buffer on, Arrow reads whole row groups ahead: five times the memory for the same rows.
        with reading(path), pq.ParquetFile(path, pre_buffer=False) as file:
            for rows, batch in _batches(file, ahead or Ahead()):
                for place, values in enumerate(_values(batch) if batch is not None else (), start=1):
                    yield _parquet_row(str(path), number + place, values)
                number += rows
    except pa.ArrowException as error:
        raise DataError(
            f"{path} is not a whole Parquet file, it breaks after row {number}: {str(error).splitlines()[0]}"
        ) from error


def _batches(file: Any, ahead: Ahead) -> Iterator[tuple[int, Any]]:
    """Pieces of a file with their numbers of rows; None for a piece that is left out."""
    for group in range(file.num_row_groups):
        size = file.metadata.row_group(group).num_rows
        if ahead.over(size):
            yield size, None
            continue
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group]):
            yield batch.num_rows, None if ahead.over(batch.num_rows) else batch


def _values(batch: Any) -> Iterator[dict[str, Any] | UnicodeDecodeError]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for index in range(batch.num_rows):
            try:
                yield from batch.slice(index, 1).to_pylist()
            except UnicodeDecodeError as error:
                yield error


def _parquet_row(source: str, number: int, values: dict[str, Any] | UnicodeDecodeError) -> RawRow | RefusedRow:
    if isinstance(values, UnicodeDecodeError):
        return RefusedRow(source, number, "not-utf8", f"A text is not UTF-8: {shown(values.object)}.")
    return RawRow(source, number, values)
