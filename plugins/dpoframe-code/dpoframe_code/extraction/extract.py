"""The program in an answer, and the rule by which it was found."""

from __future__ import annotations

import enum
import itertools
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dpoframe_code.extraction.assembling import answers, continued, whole
from dpoframe_code.extraction.cutting import STOPS, cut, longest_code, tidied
from dpoframe_code.extraction.fences import Block, blocks
from dpoframe_code.extraction.source import tree_of

_STARTS = ("def ", "class ", "import ", "from ", "@", "async def ")
_REGIONS = 8
_BLOCKS = 32
# A word or two of prose, such as "Sure", would also do as the body of a function.
_CODE = re.compile(r"\breturn\b|\byield\b|\braise\b|[=(\[]")


class Rule(enum.IntEnum):
    """How a program was found. The numbers stand in results, so they never change.

    | number | the program is |
    |---|---|
    | 0 nothing | empty: the answer holds no code |
    | 1 continuation | the problem's code, then the answer up to a stop word |
    | 2 fenced | a fenced block that defines the function |
    | 3 fenced_continuation | the problem's code, then a fenced block |
    | 4 unfenced | the answer's beginning, as far as it is Python |
    | 5 region | code between prose, without fences |
    | 6 unclosed | as 2 or 3, of a block that has no end |
    | 7 unfinished | code that is no Python, or defines the function nowhere or as a signature: it is run all the same |
    """

    NOTHING = 0
    CONTINUATION = 1
    FENCED = 2
    FENCED_CONTINUATION = 3
    UNFENCED = 4
    REGION = 5
    UNCLOSED = 6
    UNFINISHED = 7


@dataclass(frozen=True)
class Extracted:
    """A program, ready to be loaded, and the rule by which it was found in the answer."""

    program: str
    rule: Rule

    @property
    def compiles(self) -> bool:
        """Whether there is a program, and it is Python."""
        return self.rule is not Rule.NOTHING and tree_of(self.program) is not None


def extract(text: str, name: str, starter: str = "", *, base: bool = False, stops: Sequence[str] = STOPS) -> Extracted:
    """Finds the program in an answer.

    Readings are tried in an order, and the first that is Python and defines `name` as more than a signature is taken. For a
    base model the answer goes on where the prompt ended, so the continuation comes first; a chat model shows code in fences.

    Args:
        text: The answer as the model gave it.
        name: The function that is asked for.
        starter: Code that the problem gives: the beginning that an answer continues, with imports and helpers.
        base: Whether the answer continues the prompt, rather than replies to it.
        stops: Where a continuation ends.
    """
    text = tidied(text)
    if not text.strip():
        return Extracted("", Rule.NOTHING)
    found = blocks(text)[:_BLOCKS]
    rest = _continuation(text, starter, stops) if base or _CODE.search(text) else iter(())
    shown = [_fenced(found, starter, name), _open(text, starter, name)]
    orders = [rest, *shown] if base else [*shown, rest]
    for readings in orders:
        for program, rule in readings:
            if answers(program, name):
                return Extracted(program, rule)
    return _last_resort(text, found, starter, base=base, stops=stops)


def _continuation(text: str, starter: str, stops: Sequence[str]) -> Iterator[tuple[str, Rule]]:
    """The answer as the rest of the starter."""
    for program in continued(starter, cut(text, stops)) if starter else ():
        yield program, Rule.CONTINUATION


def _fenced(found: Sequence[Block], starter: str, name: str) -> Iterator[tuple[str, Rule]]:
    """Blocks that define the function, the first one first; then blocks as the rest of the starter."""
    likely = [one for one in found if not one.other] or list(found)
    codes = [longest_code(one.code) for one in likely]
    for number, (block, code) in enumerate(zip(likely, codes, strict=True)):
        program = whole(starter, code, name, [other for place, other in enumerate(codes) if place != number])
        if program is not None:
            yield program, Rule.FENCED if block.closed else Rule.UNCLOSED
    if len(codes) > 1 and (joined := whole(starter, "\n\n".join(codes), name)) is not None:
        yield joined, Rule.FENCED if likely[-1].closed else Rule.UNCLOSED
    for block in likely if starter else ():
        for program in continued(starter, block.code):
            yield program, Rule.FENCED_CONTINUATION if block.closed else Rule.UNCLOSED


def _open(text: str, starter: str, name: str) -> Iterator[tuple[str, Rule]]:
    """Code that stands in no fence: from the beginning, or from a line on that looks like code."""
    code = longest_code(cut(textwrap.dedent(text).lstrip("\n"), ("\n```",)))
    if (program := whole(starter, code, name)) is not None:
        yield program, Rule.UNFENCED
    lines = textwrap.dedent(text).split("\n")
    starts = [number for number, line in enumerate(lines) if line.lstrip().startswith(_STARTS)][:_REGIONS]
    for start in starts:
        code = longest_code(_as_deep(lines[start:]))
        if (program := whole(starter, code, name)) is not None:
            yield program, Rule.REGION


def _as_deep(lines: Sequence[str]) -> str:
    """Lines up to the first that is indented less than the first one, without that indentation."""
    indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    inside = itertools.takewhile(lambda line: line.startswith(indent) or not line.strip(), lines)
    return "\n".join(line.removeprefix(indent) for line in inside)


def _last_resort(text: str, found: Sequence[Block], starter: str, *, base: bool, stops: Sequence[str]) -> Extracted:
    """What is most likely meant as the program: it will fail, and the way in which it does is telling."""
    likely = [one.code for one in found if not one.other and one.code.strip()]
    if likely and not (base and starter):
        return Extracted("\n\n".join(likely), Rule.UNFINISHED)
    if starter and base:
        code = cut(text, stops)
        return Extracted(next(iter(continued(starter, code))), Rule.UNFINISHED)
    if any(line.lstrip().startswith(_STARTS) for line in text.split("\n")):
        return Extracted(longest_code(text) or text, Rule.UNFINISHED)
    return Extracted("", Rule.NOTHING)
