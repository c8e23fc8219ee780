"""Sentences by rule: nothing is downloaded, and the same text gives the same sentences on every machine."""

from __future__ import annotations

import regex  # type: ignore[import-untyped]

_CLOSING = "\"'\u2019\u201d\u00bb)\\]"
_TITLES = "mr mrs ms dr prof sr jr st rev hon gen col lt sgt capt cpl gov sen rep pres mt ft vs approx al cf e.g i.e"
_NUMBERED = "no nos vol fig figs eq eqs sec ch p pp jan feb mar apr jun jul aug sep sept oct nov dec"
# What ends a sentence where a space follows, and what ends one wherever it stands.
_END = regex.compile(
    rf"(?:[.!?\u2026]+[{_CLOSING}]*(?=\s)|[\u3002\uff01\uff1f\uff61\u0964\u0965\u061f\u06d4\u0589\u1362\u104b\u17d4]+"
    rf"[{_CLOSING}\u300d\u300f\uff09]*)"
)
_LAST_WORD = regex.compile(r"[\p{L}.]+$")
_NEXT = regex.compile(r"\s*(\S?)")
_LONGEST = 20  # letters of an abbreviation, and more
_INITIAL = regex.compile(r"(?:\p{Lu}\.)*\p{Lu}")


def sentences(text: str) -> list[str]:
    """The sentences of a text, without space around them; a new line ends a sentence too.

    A full stop ends none after an abbreviation (`Dr.`, and `No.` before a number), after an initial (`J. Smith`, `U.S. troops`),
    or before a word in lower case, unless a space stands before it, as in tokenized text.
    """
    found: list[str] = []
    for line in text.splitlines():
        start = 0
        for end in _END.finditer(line):
            if _ends(line, end.start(), end.end()):
                found.append(line[start : end.end()].strip())
                start = end.end()
        found.append(line[start:].strip())
    return [one for one in found if one]


def _ends(line: str, start: int, stop: int) -> bool:
    """Whether the mark between two places of a line ends a sentence."""
    mark, following = line[start:stop].strip(_CLOSING), _NEXT.match(line, stop)[1]
    if mark[0] not in ".\u2026" or (mark == "." and line[start - 1 : start].isspace()):
        return True
    if following.islower():
        return False
    if mark != "." or not following:
        return True
    before = _LAST_WORD.search(line[max(0, start - _LONGEST) : start])
    word = before[0] if before else ""
    known = _TITLES + " " + _NUMBERED if following.isdigit() else _TITLES
    return not (_INITIAL.fullmatch(word) or word.lower() in known.split())
