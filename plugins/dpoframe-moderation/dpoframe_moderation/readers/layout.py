"""What a row says, and how a row that says nothing usable is told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from dpoframe import RawRow, RefusedRow
from dpoframe_moderation.bare import bare
from dpoframe_moderation.record import Record

_HALF = re.compile(r"[\ud800-\udfff]")


class BrokenError(Exception):
    """A row cannot be used: a stable code and the reason in words. Never leaves the readers."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        super().__init__(reason)


@dataclass(frozen=True)
class Labelled:
    """One text of a row; see `Record` for what the fields mean."""

    text: str
    unsafe: bool | None
    labels: Mapping[str, bool] = field(default_factory=dict)
    group: Mapping[str, str] = field(default_factory=dict)
    id: str = ""
    kin: str = ""


Layout: TypeAlias = Callable[[Mapping[str, Any]], Iterable[Labelled]]
"""Finds the texts of a row. Raises `BrokenError`."""


def records(rows: Iterable[RawRow | RefusedRow], layout: Layout, name: str) -> Iterator[Record | RefusedRow]:
    """The labelled texts of rows, and a refusal for every row that holds none.

    Texts without an id are called after `name` and the number of their row.
    """
    for row in rows:
        if isinstance(row, RefusedRow):
            yield row
            continue
        try:
            found = list(layout(row.values))
        except BrokenError as fault:
            yield row.refuse(fault.code, str(fault))
            continue
        for place, one in enumerate(found):
            plain = f"{name}-{row.row}" if len(found) == 1 else f"{name}-{row.row}-{place}"
            yield Record(one.id or plain, one.text, one.unsafe, one.labels, row.source, row.row, one.group, one.kin)


def text_in(values: Mapping[str, Any], column: str, *others: str) -> str:
    """A text that can be read, out of the first of these columns that is there.

    Raises:
        BrokenError: None is there, or it is no text, or no file could hold it, or nothing of it can be seen.
    """
    name = next((one for one in (column, *others) if one in values), None)
    if name is None:
        raise BrokenError("text-missing", f"There is no column {column!r}; there are: {', '.join(map(str, values))}.")
    text = values[name]
    if not isinstance(text, str):
        raise BrokenError("wrong-type", f"{name!r} must be a text, found {type(text).__name__}.")
    if half := _HALF.search(text):
        raise BrokenError("not-utf8", f"{name!r} holds half a character at position {half.start() + 1}.")
    if not bare(text).strip():
        raise BrokenError("empty-text", f"{name!r} is empty, blank or made of characters that nobody sees.")
    return text


def told(value: object, column: str) -> bool | None:
    """A yes or no, however written; None where there is none.

    Raises:
        BrokenError: It is something else.
    """
    plain = value.strip().lower() if isinstance(value, str) else value
    if plain is None or plain == "" or plain != plain:
        return None
    if plain in (True, 1, "1", "1.0", "true", "yes"):
        return True
    if plain in (False, 0, "0", "0.0", "false", "no"):
        return False
    raise BrokenError("wrong-label", f"{column!r} must be 0 or 1, true or false, found {value!r:.60}.")


def grouped(values: Mapping[str, Any], **columns: str) -> dict[str, str]:
    """Those of the columns that say something, under the names given."""
    found = {name: values.get(column) for name, column in columns.items()}
    return {name: str(value) for name, value in found.items() if value is not None and str(value).strip()}


def verdict_of(labels: Mapping[str, bool], needed: Iterable[str]) -> bool | None:
    """Whether any label holds; None where none does and some of those that are `needed` for a no are unknown."""
    if any(labels.values()):
        return True
    return None if set(needed) - labels.keys() else False
