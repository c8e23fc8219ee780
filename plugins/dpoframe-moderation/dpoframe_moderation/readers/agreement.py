"""Texts that occur more than once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from dpoframe import RefusedRow
from dpoframe_moderation.bare import likeness
from dpoframe_moderation.record import Record


def agreed(found: Iterable[Record | RefusedRow]) -> Iterator[Record | RefusedRow]:
    """Each text once, with all that its rows know of it.

    Rows that repeat a text without saying otherwise are refused as `duplicate`; where two rows say the opposite of each other,
    all rows of the text are refused as `contradiction`, because nobody can tell which is right.
    """
    alike: dict[str, list[Record]] = defaultdict(list)
    for one in found:
        if isinstance(one, RefusedRow):
            yield one
        else:
            alike[likeness(one.text)].append(one)
    for same in alike.values():
        yield from same if len(same) == 1 else _settled(same)


def _settled(same: Sequence[Record]) -> Iterator[Record | RefusedRow]:
    first, *rest = same
    labels: dict[str, bool] = {}
    at_odds = {key for one in same for key, value in one.labels.items() if labels.setdefault(key, value) != value}
    verdicts = {one.unsafe for one in same} - {None}
    if at_odds or len(verdicts) > 1:
        about = ", ".join(sorted(at_odds)) or "the verdict"
        rows = ", ".join(str(one.row) for one in same)
        yield from (one.refuse("contradiction", f"Rows {rows} have one text and differ in {about}.") for one in same)
        return
    yield replace(first, labels=labels, unsafe=next(iter(verdicts), None))
    yield from (one.refuse("duplicate", f"The text occurred before, in row {first.row}.") for one in rest)
