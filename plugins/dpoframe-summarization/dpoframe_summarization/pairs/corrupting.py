"""Making a good summary wrong in one known place."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from dpoframe_summarization.pairs.names import found_in, names_in, swapped
from dpoframe_summarization.pairs.negation import negated
from dpoframe_summarization.pairs.numbers import with_another

Kind: TypeAlias = Literal["entity", "number", "negation"]

_Made: TypeAlias = "tuple[str, str, str] | None"


@dataclass(frozen=True)
class Corruption:
    """A summary that was made wrong.

    Attributes:
        text: The wrong summary.
        kind: What was done.
        before: What stood there.
        after: What stands there now.
    """

    text: str
    kind: Kind
    before: str
    after: str


def corruptions(summary: str, source: str, kinds: Sequence[Kind], most: int, seed: int | str) -> list[Corruption]:
    """Wrong versions of a summary, each by another kind of corruption, the kinds that can be done first in a drawn order.

    Args:
        summary: A good summary.
        source: Its article, from which names and numbers are taken.
        kinds: `entity` puts another name of the article in the place of one, `number` another number, `negation` turns a
            statement round.
        most: How many at most.
        seed: Decides everything that is drawn, together with the texts.
    """
    # Random takes texts by their SHA-512, so the draw is the same on every machine.
    draw = random.Random(f"{seed}\x1f{source}\x1f{summary}")
    order = draw.sample(list(kinds), len(kinds))
    found: list[Corruption] = []
    for kind in order:
        made = _WAYS[kind](summary, source, draw)
        if made is not None and made[0] != summary and len(found) < most:
            found.append(Corruption(made[0], kind, made[1], made[2]))
    return found


def _entity(summary: str, source: str, draw: random.Random) -> _Made:
    """Another name of the article in the place of one, of as many words where there is one."""
    names = names_in(source)
    own = found_in(summary, names)
    draw.shuffle(own)
    for name in own:
        others = [one for one in names if not _words(one) & _words(name)]
        alike = [one for one in others if len(one.split()) == len(name.split())] or others
        if alike:
            other = alike[draw.randrange(len(alike))]
            return swapped(summary, name, other), name, other
    return None


def _words(name: str) -> set[str]:
    return set(name.lower().split())


_WAYS: dict[Kind, Callable[[str, str, random.Random], _Made]] = {
    "entity": _entity,
    "number": with_another,
    "negation": lambda summary, source, draw: negated(summary, draw),
}
