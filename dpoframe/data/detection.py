"""Choosing the layout of a source from its first rows, and turning its rows into pairs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dpoframe.data.ahead import Ahead
from dpoframe.data.layouts import LAYOUTS, Layout
from dpoframe.data.rows import RawRow, RowError
from dpoframe.errors import DataError, suggestion
from dpoframe.types import PreferencePair, RefusedRow

SAMPLE_ROWS = 20
_MAX_UNREADABLE = 10_000
_ABSENT = object()


def to_pairs(
    rows: Iterable[RawRow | RefusedRow],
    layout: str = "auto",
    columns: Mapping[str, str] | None = None,
    ahead: Ahead | None = None,
) -> Iterator[PreferencePair | RefusedRow]:
    """Pairs of raw rows, one for one; a `RefusedRow` for each row that makes none.

    Args:
        rows: What a file holds.
        layout: Name of a layout, or `auto` to tell it from the first rows.
        columns: The layout's column name to the file's own; dots reach into nested objects (`prompt: info.post`).
        ahead: Rows to leave out, of which no pair is made; the layout is told from the first rows all the same.

    Raises:
        DataError: the layout is unknown, cannot be told or can be two, or a mapped column does not exist.
    """
    mapping = dict(columns or {})
    _check_names(layout, mapping)
    stream, left = iter(rows), ahead or Ahead()
    with left.paused():
        first = _first_rows(stream)
    sample = [renamed(row.values, mapping) for row in first if isinstance(row, RawRow)]
    if not sample:
        yield from (row for row in first if isinstance(row, RefusedRow) and not left.over())
        return
    _check_mapped([row.values for row in first if isinstance(row, RawRow)], mapping)
    taken = LAYOUTS[layout] if layout != "auto" else detect(sample, first[0].source)
    _check_columns(taken, sample)
    for row in itertools.chain(first, stream):
        if not left.over():
            yield row if isinstance(row, RefusedRow) else _pair(taken, row, mapping)


def _pair(layout: Layout, row: RawRow, mapping: Mapping[str, str]) -> PreferencePair | RefusedRow:
    try:
        return layout.pair(RawRow(row.source, row.row, renamed(row.values, mapping)))
    except RowError as fault:
        return row.refuse(fault.code, fault.reason)
    except UnicodeEncodeError:
        return row.refuse("not-utf8", "A text holds a code point that UTF-8 cannot write.")
    except RecursionError:
        return row.refuse("wrong-type", "A value is nested too deep.")


def _first_rows(stream: Iterator[RawRow | RefusedRow]) -> list[RawRow | RefusedRow]:
    first: list[RawRow | RefusedRow] = []
    good = 0
    for row in stream:
        first.append(row)
        good += isinstance(row, RawRow)
        if good == SAMPLE_ROWS:
            break
        if not good and len(first) == _MAX_UNREADABLE:
            shown = "; ".join(f"row {bad.row}: {bad.reason}" for bad in first[:3] if isinstance(bad, RefusedRow))
            raise DataError(f"None of the first {_MAX_UNREADABLE:,} rows can be read ({shown}). Is this the right file?")
    return first


def _check_names(layout: str, mapping: Mapping[str, str]) -> None:
    if layout != "auto" and layout not in LAYOUTS:
        raise DataError(f"There is no layout {layout!r}. {suggestion(layout, LAYOUTS)} Known: auto, {', '.join(LAYOUTS)}.")
    known = sorted({name for one in LAYOUTS.values() for name in (*one.needs, *one.optional)} | {"weight"})
    if unknown := [name for name in mapping if name not in known]:
        raise DataError(
            f"columns maps {', '.join(map(repr, unknown))}, which no layout has. {suggestion(unknown[0], known)} "
            "Write the layout's name first and the file's after it, such as `columns: {prompt: question}`. "
            f"Known: {', '.join(known)}."
        )


def _check_mapped(rows: Sequence[Mapping[str, Any]], mapping: Mapping[str, str]) -> None:
    absent = [name for name in mapping.values() if all(_lookup(row, name) is _ABSENT for row in rows)]
    if absent:
        found = _columns(rows)
        raise DataError(
            f"columns names {', '.join(map(repr, absent))}, which the data does not have. {suggestion(absent[0], found)} "
            f"Columns found: {', '.join(found)}."
        )


def _check_columns(layout: Layout, sample: Sequence[Mapping[str, Any]]) -> None:
    absent = [name for name in layout.needs if not any(name in row for row in sample)]
    if absent:
        raise DataError(
            f"The layout {layout.name!r} needs the columns {', '.join(layout.needs)}; not found: {', '.join(absent)}. "
            f"Columns found: {', '.join(_columns(sample))}. Map them, such as `columns: {{{absent[0]}: NAME}}`."
        )


def renamed(values: Mapping[str, Any], mapping: Mapping[str, str]) -> Mapping[str, Any]:
    """A row under the layout's column names; a column that was mapped is found under its new name only."""
    if not mapping:
        return values
    rest = {key: value for key, value in values.items() if key not in mapping.values() and key not in mapping}
    found = {name: _lookup(values, source) for name, source in mapping.items()}
    return {**rest, **{name: value for name, value in found.items() if value is not _ABSENT}}


def _lookup(values: Mapping[str, Any], name: str) -> Any:
    if name in values:
        return values[name]
    head, dot, tail = name.partition(".")
    inner = values.get(head)
    return _lookup(inner, tail) if dot and isinstance(inner, Mapping) else _ABSENT


def detect(sample: Sequence[Mapping[str, Any]], source: str = "the data") -> Layout:
    """The one layout that at least half of the sampled rows fit.

    Raises:
        DataError: none does, or more than one; the message shows the columns found and the layouts known.
    """
    fitting = [layout for layout in LAYOUTS.values() if 2 * sum(map(layout.fits, sample)) >= len(sample)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        options = "; ".join(f"`layout: {layout.name}` ({layout.example})" for layout in fitting)
        raise DataError(f"The columns of {source} fit {len(fitting)} layouts. Name the one you mean: {options}.\n{_seen(sample)}")
    known = "\n".join(f"  {layout.name}: {', '.join(layout.needs)} ({layout.example})" for layout in LAYOUTS.values())
    raise DataError(
        f"The layout of {source} is not known.\n{_seen(sample)}\nLayouts known, with the columns they need:\n{known}\n"
        "Map your columns to those of a layout, such as `columns: {prompt: question, chosen: good, rejected: bad}`, "
        "and name the layout if the types alone do not tell it."
    )


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(name) for row in rows for name in row))


def _seen(sample: Sequence[Mapping[str, Any]]) -> str:
    kinds = {
        name: "/".join(sorted({type(row[name]).__name__ for row in sample if name in row}))
        for name in _columns(sample)
    }  # fmt: skip
    return f"Columns found: {', '.join(f'{name} ({kind})' for name, kind in list(kinds.items())[:40]) or 'none'}."
