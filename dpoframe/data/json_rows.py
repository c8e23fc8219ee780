"""Rows of JSON Lines files and of JSON arrays, read one at a time."""

from __future__ import annotations

import codecs
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dpoframe.data.ahead import Ahead
from dpoframe.data.files import MAX_ROW_BYTES, lines, opened
from dpoframe.data.rows import RawRow, RowError, shown
from dpoframe.errors import DataError
from dpoframe.types import RefusedRow

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".ndjson", ".ndjson.gz")
_SPACE = " \t\r\n"


def json_rows(path: Path, ahead: Ahead | None = None) -> Iterator[RawRow | RefusedRow]:
    """Rows of a file of JSON Lines or of one JSON array; which of the two, its first character tells.

    Blank lines are no rows; the row number of JSON Lines is the line number. Memory is bounded by the largest row. Lines that
    `ahead` leaves out are not parsed.
    """
    with opened(path) as file:
        start = file.tell()
        is_array = file.read(4096).lstrip()[:1] == b"["
        file.seek(start)
        yield from _array_rows(file, path) if is_array else _line_rows(file, str(path), ahead or Ahead())


def _line_rows(file: BinaryIO, source: str, ahead: Ahead) -> Iterator[RawRow | RefusedRow]:
    for number, line in enumerate(lines(file), start=1):
        if (line is None or line.strip()) and ahead.over():
            continue
        if line is None:
            yield RefusedRow(source, number, "over-long", f"The line has more than {MAX_ROW_BYTES:,} bytes.")
        elif line.strip():
            try:
                yield RawRow(source, number, _parse_line(line))
            except RowError as fault:
                yield RefusedRow(source, number, fault.code, fault.reason)


def _parse_line(line: bytes) -> dict[str, Any]:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RowError("not-utf8", f"Byte {error.start + 1} of the line ({line[error.start]:#04x}) is not UTF-8.") from error
    decoder = _Decoder()
    try:
        value, end = decoder.at(text, len(text) - len(text.lstrip(_SPACE)))
    except json.JSONDecodeError as error:
        raise RowError("invalid-json", f"{error.msg} at column {error.colno}.") from error
    if text[end:].strip(_SPACE):
        raise RowError("invalid-json", f"More follows after the JSON value, at column {end + 1}.")
    return decoder.as_row(value)


class _Decoder:
    """The standard decoder, made strict: constants outside JSON are remembered, and what recurses too deep is a JSON error."""

    def __init__(self) -> None:
        self._foreign: list[str] = []
        self._json = json.JSONDecoder(parse_constant=self._foreign.append)

    def at(self, text: str, position: int) -> tuple[Any, int]:
        """The value that starts at `position`, and where it ends."""
        self._foreign.clear()
        try:
            return self._json.raw_decode(text, position)
        except RecursionError as error:
            raise json.JSONDecodeError("Nested too deep", text, position) from error
        except json.JSONDecodeError:
            raise
        except ValueError as error:
            # Python refuses integers of more than 4300 digits with a plain ValueError.
            raise json.JSONDecodeError(str(error).split(";")[0], text, position) from error

    def as_row(self, value: Any) -> dict[str, Any]:
        """The value just decoded, if it is an object of valid JSON."""
        if self._foreign:
            raise RowError("invalid-json", f"{self._foreign[0]} is not JSON. Write null, or leave the key out.")
        if not isinstance(value, dict):
            raise RowError("wrong-type", f"A row must be an object with columns, found {shown(value)}.")
        return value


def _array_rows(file: BinaryIO, path: Path) -> Iterator[RawRow | RefusedRow]:
    decoder, window = _Decoder(), _Window(file, path)
    window.expect("[")
    for number in itertools.count(1):
        if window.peek() == "]":
            break
        value = window.value(decoder, number)
        try:
            yield RawRow(str(path), number, decoder.as_row(value))
        except RowError as fault:
            yield RefusedRow(str(path), number, fault.code, fault.reason)
        if window.peek() != "]":
            window.expect(",")
    window.expect("]")
    if window.peek():
        raise DataError(f"{path}: more follows after the end of the JSON array. Write one array, or one object a line.")


class _Window:
    """A moving view of a JSON text: holds the current element and a little more, never the whole file."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        # Bytes that are not UTF-8 become lone surrogates, which the checks of each row find as `not-utf8`.
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._text, self._position, self._chunk, self._ended = "", 0, 65536, False

    def _more(self) -> None:
        data = self._file.read(self._chunk)
        self._ended = not data
        self._text = self._text[self._position :] + self._decode(data, final=self._ended)
        self._position = 0

    def peek(self) -> str:
        """The next character that is not white space; empty at the end of the file."""
        while True:
            while self._position < len(self._text):
                if (character := self._text[self._position]) not in _SPACE:
                    return character
                self._position += 1
            if self._ended:
                return ""
            self._more()

    def expect(self, wanted: str) -> None:
        """Moves past `wanted`, or raises."""
        found = self.peek()
        if found != wanted:
            what = f"{found!r}" if found else "the end of the file: it is cut off"
            raise DataError(f"{self._path} is not a whole JSON array: expected {wanted!r}, found {what}.")
        self._position += 1

    def value(self, decoder: _Decoder, number: int) -> Any:
        """The next element, reading on until it is whole."""
        self.peek()
        while True:
            try:
                value, end = decoder.at(self._text, self._position)
                if end < len(self._text) or self._ended:
                    self._position, self._chunk = end, 65536
                    return value
            except json.JSONDecodeError as error:
                if self._ended or len(self._text) - self._position > MAX_ROW_BYTES:
                    raise DataError(
                        f"{self._path}: element {number} of the JSON array is cut off, broken or larger than {MAX_ROW_BYTES:,} "
                        f"characters ({error.msg}); what follows cannot be read. Repair the file, or write one object a line."
                    ) from error
            self._chunk = max(self._chunk, 2 * (len(self._text) - self._position))
            self._more()
