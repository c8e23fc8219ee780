"""Numbers that are written in English words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import regex  # type: ignore[import-untyped]

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_ORDINALS = (
    "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"

VALUES = {
    **{word: value for value, word in enumerate(_UNITS.split())},
    **{word: value for value, word in enumerate(_ORDINALS.split())},
    **{word: 10 * value for value, word in enumerate(_TENS.split(), start=2)},
    **{word.removesuffix("y") + "ieth": 10 * value for value, word in enumerate(_TENS.split(), start=2)},
}
SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}

WEAK = frozenset(["one", "first", "second", "a", "an"])
"""Words that mostly state no number: `one of them`, `for the first time`, `a second`."""

_WORD = "|".join(sorted([*VALUES, *SCALES], key=len, reverse=True))
_RUN = regex.compile(rf"\b(?:an?\s+(?={'|'.join(SCALES)}))?(?:{_WORD})(?:(?:\s+and\s+|[\s-]+)(?:{_WORD}))*\b", regex.IGNORECASE)


@dataclass(frozen=True)
class Spelled:
    """A number in words: its value, where it stands in the text, and whether it may well state none."""

    value: int
    start: int
    end: int
    weak: bool = False


def spelled(text: str) -> Iterator[Spelled]:
    """The numbers in words of a text: `twenty-one`, `a million`, `two hundred and five thousand`, `third`."""
    for run in _RUN.finditer(text):
        read = [word for word in regex.split(r"[\s-]+", run[0].lower()) if word not in ("a", "an", "and")]
        found = list(values(read))
        weak = len(read) == 1 and read[0] in WEAK
        yield from (Spelled(value, run.start(), run.end(), weak) for value in found)


def values(read: Sequence[str]) -> Iterator[int]:
    """The values of number words in a row; a word that cannot go on with the number before it begins another."""
    total = group = 0
    last, scale = 0, 0  # what the last word was worth, and the last scale; 0 for none
    for word in read:
        if word in SCALES and SCALES[word] > 100 and scale and SCALES[word] >= scale:
            yield total + group
            total = group = last = scale = 0
        if word in SCALES:
            total, group, last, scale = _scaled(total, group, SCALES[word], scale)
        elif last and not _goes_on(VALUES[word], last):
            yield total + group
            total, group, last, scale = 0, VALUES[word], VALUES[word] or 1, 0
        else:
            group, last = group + VALUES[word], VALUES[word] or 1
    yield total + group


def _scaled(total: int, group: int, worth: int, scale: int) -> tuple[int, int, int, int]:
    if worth <= 100:
        return total, (group or 1) * worth, worth, scale
    return total + (group or 1) * worth, 0, worth, worth


def _goes_on(value: int, last: int) -> bool:
    """Whether a value continues a number whose last word was worth so much: `twenty` goes on with `one`."""
    return last >= 100 or (20 <= last < 100 and last % 10 == 0 and 0 < value < 10)
