"""Values out of a row, checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dpoframe import RawRow, RefusedRow
from dpoframe_summarization.articles.article import Article, Summary
from dpoframe_summarization.articles.broken import BrokenError
from dpoframe_summarization.articles.cleaning import clean

Read = Iterator[Article | RefusedRow]


def article(row: RawRow, name: Any, source: Any, references: Sequence[Any] = ()) -> Article:
    """An article of one row, cleaned, without summaries.

    Raises:
        BrokenError: It has no source, or a text is broken.
    """
    text = clean(source, "source")
    others = [clean(one, "reference") for one in references if one]
    removed = text.removed + sum(one.removed for one in others)
    kept = tuple(one.text for one in others)
    return Article("" if name is None else str(name), text.text, kept, (), row.source, row.row, removed)


def summary(text: Any, ratings: Mapping[str, float], system: Any = "") -> tuple[Summary, int]:
    """A summary and how many characters were taken out of it.

    Raises:
        BrokenError: It is empty or broken.
    """
    cleaned = clean(text, "summary")
    return Summary(cleaned.text, ratings, "" if system is None else str(system)), cleaned.removed


def rating(value: Any, name: str) -> dict[str, float]:
    """A rating by its name; nothing where it is missing.

    Raises:
        BrokenError: It is no finite number.
    """
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return {}
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise BrokenError("wrong-type", f"The rating '{name}' must be a number, found {value!r:.60}.") from error
    if not math.isfinite(number):
        raise BrokenError("wrong-type", f"The rating '{name}' must be finite, found {value!r}.")
    return {name: number}


def listed(value: Any, name: str) -> list[Any]:
    """A list, as it is.

    Raises:
        BrokenError: It is none.
    """
    if not isinstance(value, list | tuple):
        raise BrokenError("wrong-type", f"'{name}' must be a list, found {type(value).__name__}.")
    return list(value)


def gathered(parts: Iterable[Article | RefusedRow]) -> Read:
    """One article for all parts with its id, in the order of their first rows; refused rows pass."""
    found: dict[str, Article] = {}
    for part in parts:
        if isinstance(part, RefusedRow):
            yield part
            continue
        key = part.id or part.source
        known = found.get(key)
        if known is None:
            found[key] = part
        elif known.source != part.source:
            yield part.refuse("contradiction", "Another row has the same id and another source.")
        else:
            found[key] = replace(
                known,
                references=known.references or part.references,
                summaries=(*known.summaries, *part.summaries),
                removed=known.removed + part.removed,
            )
    yield from found.values()
