"""Who wrote the two answers of a pair."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from dpoframe import PreferencePair
from dpoframe_moderation.readers.choosing import Balanced, draw

Authors: TypeAlias = Literal["any", "balanced"]

_MUCH = 0.2
"""By how much an author's shares of the chosen and of the rejected answers differ before it is told."""


def balanced_authors(pairs: Sequence[PreferencePair]) -> Balanced:
    """Of any two authors, as many pairs that prefer the one as the other; pairs of one author's two answers all stay.

    Where one model wrote most of the chosen answers, its style is the quickest thing to learn. The pairs of the lowest
    digests stay.
    """
    alike: dict[frozenset[str], dict[str, list[PreferencePair]]] = defaultdict(lambda: defaultdict(list))
    for pair in pairs:
        chosen, rejected = _authors(pair)
        alike[frozenset((chosen, rejected))][chosen].append(pair)
    kept = {pair.id for authors, sides in alike.items() for pair in _even(authors, sides.values())}
    return Balanced([one for one in pairs if one.id in kept], [one for one in pairs if one.id not in kept])


def uneven_authors(pairs: Sequence[PreferencePair]) -> str:
    """Whose answers are chosen, or rejected, so often that their style tells which is which; empty where nobody's are."""
    sides = (Counter(_authors(pair)[side] for pair in pairs) for side in (0, 1))
    chosen, rejected = ({name: count / len(pairs) for name, count in side.items() if name} for side in sides)
    names = sorted(chosen.keys() | rejected.keys(), key=lambda name: -abs(chosen.get(name, 0) - rejected.get(name, 0)))
    told = [
        f"{name} wrote {chosen.get(name, 0):.0%} of the chosen answers and {rejected.get(name, 0):.0%} of the rejected ones"
        for name in names
        if abs(chosen.get(name, 0) - rejected.get(name, 0)) > _MUCH
    ]
    return "; ".join(told)


def _even(authors: frozenset[str], sides: Iterable[list[PreferencePair]]) -> list[PreferencePair]:
    """As many pairs of each direction; none where there is but one direction between two authors."""
    lists = list(sides)
    if len(authors) == 1:
        return lists[0]
    fewest = min(map(len, lists)) if len(lists) == len(authors) else 0
    return [pair for side in lists for pair in sorted(side, key=lambda one: draw(one.id, "authors"))[:fewest]]


def _authors(pair: PreferencePair) -> tuple[str, str]:
    return str(pair.meta.get("chosen_model", "")), str(pair.meta.get("rejected_model", ""))
