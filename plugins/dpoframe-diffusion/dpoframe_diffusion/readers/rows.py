"""What the layouts share: rows whose columns are looked for once, captions, weights, and pairs that know their place."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from dpoframe import DataError, Media, PreferencePair, RawRow, RefusedRow

Pairs: TypeAlias = Iterator[PreferencePair | RefusedRow]
Paths: TypeAlias = str | Path | list[str | Path]

_SAMPLE = 20


class RowFault(Exception):  # noqa: N818 - not an error of the program: it becomes a refused row
    """One row makes no pair: a stable code and the reason in words."""

    def __init__(self, code: str, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(f"{code}: {reason}")


def pairs_of(
    rows: Iterable[RawRow | RefusedRow],
    needs: Sequence[tuple[str, ...]],
    layout: str,
    make: Callable[[RawRow], Iterable[PreferencePair | RefusedRow]],
    fix: str = "For columns with other names take `name: image_rows` and map them.",
) -> Pairs:
    """What `make` gives for each row; a row that it raises `RowFault` for comes as refused.

    Args:
        rows: The rows.
        needs: Columns the layout needs, each with the names it goes by.
        layout: The layout in words, for the message.
        make: Gives the pairs of a row.
        fix: What to do where a column is missing.

    Raises:
        DataError: none of the first rows has one of the columns.
    """
    stream = iter(rows)
    first = list(itertools.islice(stream, _SAMPLE))
    _require([row for row in first if isinstance(row, RawRow)], needs, layout, fix)
    for row in itertools.chain(first, stream):
        if isinstance(row, RefusedRow):
            yield row
            continue
        try:
            yield from make(row)
        except RowFault as fault:
            yield row.refuse(fault.code, fault.reason)


def _require(sample: Sequence[RawRow], needs: Sequence[tuple[str, ...]], layout: str, fix: str) -> None:
    found = list(dict.fromkeys(str(name) for row in sample for name in row.values))
    absent = [names for names in needs if not set(names) & set(found)]
    if sample and absent:
        wanted = "; ".join(" or ".join(names) for names in needs)
        raise DataError(
            f"{sample[0].source} is not laid out as {layout}: it has no column {' or '.join(absent[0])}. "
            f"Needed: {wanted}. Found: {', '.join(found)}. {fix}"
        )


def first_of(values: Mapping[str, Any], *names: str) -> Any:
    """The first of these columns that holds something."""
    return next((values[name] for name in names if values.get(name) is not None), None)


def caption(values: Mapping[str, Any], *names: str) -> str:
    """The caption in the first of these columns that holds one.

    Raises:
        RowFault: there is none (`prompt-missing`, `empty-prompt`), it is no text (`wrong-type`) or not UTF-8 (`not-utf8`).
    """
    value = first_of(values, *names)
    if value is None:
        raise RowFault("prompt-missing", f"There is no caption in {' or '.join(map(repr, names))}.")
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise RowFault("not-utf8", f"Byte {error.start + 1} of the caption is not UTF-8.") from error
    if not isinstance(value, str):
        raise RowFault("wrong-type", f"The caption must be a text, found {type(value).__name__}.")
    if not value.strip():
        raise RowFault("empty-prompt", "The caption is empty or blank.")
    return value


def pair(
    row: RawRow, prompt: str, pictures: Sequence[Media], meta: Mapping[str, Any] | None = None, weight: float = 1.0
) -> PreferencePair:
    """A pair of `pictures`, the chosen one first, that knows its row; entries of `meta` that are None are left out.

    Raises:
        RowFault: the two pictures are the same, byte by byte (`identical`).
    """
    chosen, rejected = pictures
    if chosen.digest() == rejected.digest():
        raise RowFault("identical", "The chosen and the rejected picture are the same file, byte by byte.")
    known = {name: value for name, value in (meta or {}).items() if value is not None}
    return PreferencePair(prompt, chosen, rejected, weight=weight, meta={**known, "origin": row.source, "row": row.row})


def short(values: Mapping[str, Any], without: Iterable[str]) -> dict[str, Any]:
    """The plain, short columns that a layout does not use, to go with the pair."""
    left_out = {*without, "origin", "row"}
    return {
        str(name): value
        for name, value in values.items()
        if name not in left_out and (isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 200))
    }


def weight_of(values: Mapping[str, Any]) -> float:
    """The row's `weight`, 1 where there is none.

    Raises:
        RowFault: it is no number of at least 0 (`wrong-weight`).
    """
    value = values.get("weight")
    try:
        number = 1.0 if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number < 0 or isinstance(value, bool):
        raise RowFault("wrong-weight", f"The weight must be a number of at least 0, found {value!r}.")
    return number
