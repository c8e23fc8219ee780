"""Which of the labelled texts become pairs, in what order and how many of each kind."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from dpoframe import PreferencePair
from dpoframe_moderation.bare import likeness
from dpoframe_moderation.record import Record

Part: TypeAlias = Literal["all", "train", "validation", "test"]
Order: TypeAlias = Literal["source", "mixed", "short"]
Balance: TypeAlias = Literal["none", "sample", "weight"]

_TRAIN, _VALIDATION = 0.7, 0.8
"""Shares up to which a text is of the part `train` and of `validation`: 70, 10 and 20 in 100 texts."""


def part_of(record: Record) -> Part:
    """The part of a text: it follows from its kin or its wording alone, so equal texts are never in two parts."""
    share = draw(likeness(record.kin or record.text), "part")
    return "train" if share < _TRAIN else "validation" if share < _VALIDATION else "test"


def draw(text: str, purpose: str) -> float:
    """A number from 0 to 1 that follows from text and purpose alone, the same on every machine."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=purpose.encode()).digest()
    return int.from_bytes(digest, "big") / 2**64


def ordered(records: Iterable[Record], order: Order) -> list[Record]:
    """The records as they came, mixed (by a digest of the text) or the shortest texts first."""
    if order == "mixed":
        return sorted(records, key=lambda record: draw(likeness(record.text), "order"))
    return sorted(records, key=lambda record: len(record.text)) if order == "short" else list(records)


@dataclass(frozen=True)
class Balanced:
    """Pairs of which each category has as many that are true as false.

    Attributes:
        pairs: Those that stay, in their order.
        left_out: Those that do not.
    """

    pairs: Sequence[PreferencePair]
    left_out: Sequence[PreferencePair] = ()


def balanced(pairs: Sequence[PreferencePair], balance: Balance) -> Balanced:
    """Evens out how often each category applies and how often it does not.

    `sample` leaves out as many pairs of the larger side as it has more, those of the highest digests; `weight` keeps all and
    gives both sides of a category the same total weight, 1 a pair in the mean. A category of which only one side is there
    stays as it is.
    """
    if balance == "none":
        return Balanced(pairs)
    sides = _sides(pairs)
    if balance == "weight":
        return Balanced([replace(pair, weight=_weight(sides, pair)) for pair in pairs])
    kept = {pair.id for category in sides.values() for pair in _even(category)}
    return Balanced([one for one in pairs if one.id in kept], [one for one in pairs if one.id not in kept])


def _sides(pairs: Sequence[PreferencePair]) -> dict[str, dict[bool, list[PreferencePair]]]:
    """Pairs by category, and by whether it applies."""
    sides: dict[str, dict[bool, list[PreferencePair]]] = defaultdict(lambda: {True: [], False: []})
    for pair in pairs:
        sides[pair.meta["category"]][pair.meta["positive"]].append(pair)
    return sides


def _even(category: dict[bool, list[PreferencePair]]) -> Iterator[PreferencePair]:
    """As many pairs of each side; all where one side is empty."""
    fewest = min(map(len, category.values())) or None
    for side in category.values():
        yield from sorted(side, key=lambda pair: draw(pair.id, "balance"))[:fewest]


def _weight(sides: dict[str, dict[bool, list[PreferencePair]]], pair: PreferencePair) -> float:
    category = sides[pair.meta["category"]]
    own, other = (len(category[side]) for side in (pair.meta["positive"], not pair.meta["positive"]))
    return (own + other) / (2 * own) if other else 1.0
