"""Numbers in a text, and another number in the place of one."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

_NUMBER = re.compile(r"(?<![\w.,])(?P<digits>\d{1,3}(?:,\d{3})+|\d+)(?P<rest>\.\d+)?(?P<ordinal>st|nd|rd|th)?(?![\d,]\d)")
_MOST = 10**15  # what is larger is a name of something, and no float tells it from its neighbours
_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_WORD = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b", re.IGNORECASE)


@dataclass(frozen=True)
class Number:
    """A number in digits, and where it stands."""

    text: str
    value: float
    start: int

    @property
    def shape(self) -> str:
        """What it is likely to be: a year, an ordinal, a decimal, or a whole number of so many digits."""
        if self.text[-1].isalpha():
            return "ordinal"
        if "." in self.text:
            return "decimal"
        year = len(self.text) == 4 and self.text[:2] in ("18", "19", "20")
        return "year" if year else f"whole{min(len(self.text), 6)}"


def numbers_in(text: str) -> list[Number]:
    """The numbers in digits up to a thousand million million, in their order."""
    found = []
    for match in _NUMBER.finditer(text):
        value = float(match["digits"].replace(",", "") + (match["rest"] or ""))
        if value <= _MOST:
            found.append(Number(match[0], value, match.start()))
    return found


def with_another(summary: str, source: str, draw: random.Random) -> tuple[str, str, str] | None:
    """A summary with one number changed, the old one and the new one; None where it has none.

    In digits it becomes another number of the article, of the same shape where there is one, and else a number that the
    article lacks. A number in words becomes another word.
    """
    if own := numbers_in(summary):
        chosen = own[draw.randrange(len(own))]
        new = _other(chosen, own, numbers_in(source), draw)
        end = chosen.start + len(chosen.text)
        return summary[: chosen.start] + new + summary[end:], chosen.text, new
    if not (words := list(_WORD.finditer(summary))):
        return None
    word = words[draw.randrange(len(words))]
    others = [one for one in _WORDS if one not in source.lower()] or [one for one in _WORDS if one != word[0].lower()]
    new = others[draw.randrange(len(others))]
    new = new.capitalize() if word[0][0].isupper() else new
    return summary[: word.start()] + new + summary[word.end() :], word[0], new


def _other(chosen: Number, own: list[Number], others: list[Number], draw: random.Random) -> str:
    taken = {one.value for one in own}
    able = sorted({one.text for one in others if one.value not in taken and one.shape == chosen.shape})
    return able[draw.randrange(len(able))] if able else _made(chosen, taken | {one.value for one in others}, draw)


def _made(chosen: Number, taken: set[float], draw: random.Random) -> str:
    """A number near `chosen` that is none of `taken`, written in the same way."""
    reach = 12 if chosen.shape == "year" else max(4, int(chosen.value) // 2)
    while True:
        value = chosen.value + draw.choice((-1, 1)) * draw.randint(1, reach)
        if value > 0 and value not in taken:
            return _written(value, chosen)
        reach += 1


def _written(value: float, like: Number) -> str:
    decimals = len(like.text.partition(".")[2]) if like.shape == "decimal" else 0
    text = f"{value:{',' if ',' in like.text else ''}.{decimals}f}"
    return text + _suffix(int(value)) if like.shape == "ordinal" else text


def _suffix(value: int) -> str:
    return "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
