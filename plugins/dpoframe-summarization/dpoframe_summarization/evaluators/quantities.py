"""The numbers that a text states, in one form however they are written."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import regex  # type: ignore[import-untyped]

from dpoframe_summarization.evaluators.number_words import SCALES, spelled
from dpoframe_summarization.evaluators.texts import seen

PERCENT = "%"

_SYMBOLS = {"$": "dollar", "\u00a3": "pound", "\u20ac": "euro", "\u00a5": "yen", "\u20b9": "rupee", "%": PERCENT, "\u066a": PERCENT}
_KINDS = {
    "percent": PERCENT, "per cent": PERCENT, "pct": PERCENT, "percentage": PERCENT, "usd": "dollar", "gbp": "pound", "eur": "euro",
    "dollar": "dollar", "pound": "pound", "euro": "euro", "yen": "yen", "rupee": "rupee",
}  # fmt: skip
_SHORT = {"k": 10**3, "m": 10**6, "mn": 10**6, "mln": 10**6, "b": 10**9, "bn": 10**9, "tn": 10**12, "t": 10**12}
_ASIAN = {"\u4e07": 10**4, "\u842c": 10**4, "\u4ebf": 10**8, "\u5104": 10**8}
_SCALE = {**SCALES, **_SHORT, **_ASIAN}

# Digits in groups of three, a plain run of digits, and what may follow. `M11` and `iPhone6` are names.
_DIGITS = r"\d{1,3}(?:,\d{3})+(?:\.\d++)?|\d{1,3}(?:\.\d{3}){2,}|\d++(?:[.,]\d++)?"
_GROUPED = regex.compile(r"(?<=\d)[\u00a0\u202f\u2009](?=\d{3}(?!\d))")
_LONG = "|".join(SCALES)
_BRIEF = "|".join(sorted(_SHORT, key=len, reverse=True))
_MONEY = r"[$\u00a3\u20ac\u00a5\u20b9]"
# A short scale stands at its number (1.5m), or behind a space where the number is money ($ 1.5 m).
_NUMBER = regex.compile(
    rf"(?P<before>{_MONEY}?)\s?(?<![A-Za-z\d]|[A-Za-z\d][.,])(?P<digits>{_DIGITS})"
    rf"(?:(?:[\s-]?(?P<long>{_LONG}))(?![a-z])|(?:(?<={_MONEY}\s?[\d.,]+)\s)?(?P<short>{_BRIEF})\b"
    rf"|[\s]?(?P<asian>[{''.join(_ASIAN)}])|(?:st|nd|rd|th|s)\b)?",
    regex.IGNORECASE,
)
_AFTER = regex.compile(rf"[\s-]?(?:(?P<symbol>[{''.join(_SYMBOLS)}])|(?P<word>{'|'.join(_KINDS)})s?\b)", regex.IGNORECASE)
_FRACTION = regex.compile(r"(?:(?<!\d)(\d++)\s?)?+([\u00bc-\u00be\u2150-\u215e])")
_MOST_DIGITS = 300  # of a number; no source needs more
_RANGE = regex.compile(r"\s?(?:-|\u2013|\u2014|to|and|or)\s?")


@dataclass(frozen=True)
class Quantity:
    """A number as a text states it.

    Attributes:
        values: What it may mean: `1.5m` is 1.5 million, or 1.5 metres.
        kind: `%`, a currency such as `pound`, or empty.
        weak: Whether it may well state no number, as the word `one`.
        rough: How far the true number may lie from it where it looks rounded (1.2 million, 3,000), else 0.
        start: Where it begins in the text.
        end: Where it ends.
    """

    values: frozenset[Fraction]
    kind: str = ""
    weak: bool = False
    rough: Fraction = Fraction(0)
    start: int = 0
    end: int = 0

    @property
    def anywhere(self) -> Quantity:
        """The same, wherever it stands."""
        return replace(self, start=0, end=0)


def supported(claim: Quantity, given: frozenset[Quantity]) -> bool:
    """Whether one of a source's numbers is what a summary says, or is rounded by it.

    A percentage must be one in the source as well, and two currencies must be the same; a number without a kind fits any.
    """
    return any(_fits(claim, one) for one in given)


@functools.lru_cache(maxsize=256)
def quantities(text: str) -> tuple[Quantity, ...]:
    """The numbers of a text in digits of any script and in English words, in their order, each mention counted."""
    plain = unicodedata.normalize("NFKC", _FRACTION.sub(_decimal, _GROUPED.sub("", seen(text))))
    found = sorted([*_in_digits(plain), *_in_words(plain)], key=lambda one: one.start)
    return tuple(_with_kinds_of_ranges(plain, found))


def _fits(claim: Quantity, given: Quantity) -> bool:
    if PERCENT in (claim.kind, given.kind) and claim.kind == PERCENT != given.kind:
        return False
    if claim.kind and given.kind and claim.kind != given.kind:
        return False
    return any(abs(one - other) <= claim.rough for one in claim.values for other in given.values)


def _in_digits(text: str) -> Iterator[Quantity]:
    for found in _NUMBER.finditer(text):
        plain = _value(found["digits"])
        scale = _SCALE[(found["long"] or found["short"] or found["asian"] or "").lower()] if _has_scale(found) else 1
        # A short scale may be a unit of its own: 5m may be metres.
        values = {plain * scale} | ({plain} if found["short"] else set())
        kind = _SYMBOLS.get(found["before"], "") or _kind_after(text, found.end())
        yield Quantity(frozenset(values), kind, False, _rough(found["digits"], scale), found.start("digits"), found.end())


def _in_words(text: str) -> Iterator[Quantity]:
    digits = _NUMBER.sub(lambda found: "\0" * len(found[0]), text)
    for one in spelled(digits):
        yield Quantity(frozenset([Fraction(one.value)]), _kind_after(text, one.end), one.weak, Fraction(0), one.start, one.end)


def _has_scale(found: regex.Match[str]) -> bool:
    return bool(found["long"] or found["short"] or found["asian"])


def _value(digits: str) -> Fraction:
    """1,000.5 and 1.000.000 by their groups of three; 3,5 has a decimal comma."""
    if regex.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", digits):
        return _decimal_of(digits.replace(",", ""))
    if regex.fullmatch(r"\d{1,3}(?:\.\d{3}){2,}", digits):
        return _decimal_of(digits.replace(".", ""))
    return _decimal_of(digits.replace(",", "."))


def _decimal_of(digits: str) -> Fraction:
    """Digits of any script; a text of very many digits is cut."""
    whole, _, part = digits[:_MOST_DIGITS].partition(".")
    return Fraction(int(whole + part), 10 ** len(part))


def _rough(digits: str, scale: int) -> Fraction:
    """How far the true number may lie from one that looks rounded: half its last digit's worth, a twentieth of it at most.

    A plain number of four digits is a year as often as a count, and is taken as it stands.
    """
    plain = regex.sub(r"[^\d.]", "", digits)
    part = plain.partition(".")[2]
    zeros = 0 if part else len(plain) - len(plain.rstrip("0"))
    if scale < 1000 and (zeros < 2 or len(digits) == 4):
        return Fraction(0)
    return min(Fraction(scale * 10**zeros, 2 * 10 ** len(part)), _value(digits) * scale / 20)


def _kind_after(text: str, place: int) -> str:
    found = _AFTER.match(text, place)
    if found is None:
        return ""
    return _SYMBOLS[found["symbol"]] if found["symbol"] else _KINDS[found["word"].lower()]


def _with_kinds_of_ranges(text: str, found: list[Quantity]) -> Iterator[Quantity]:
    """`5 to 10 percent` says percent of both."""
    for place, one in enumerate(found):
        following = found[place + 1] if place + 1 < len(found) else one
        joined = not one.kind and _RANGE.fullmatch(text, one.end, max(one.end, following.start))
        yield replace(one, kind=following.kind) if joined else one


def _decimal(found: regex.Match[str]) -> str:
    """`1\u00bd` as 1.5."""
    part = f"{unicodedata.numeric(found[2]):.6f}".rstrip("0")
    return f"{int((found[1] or '0')[:_MOST_DIGITS])}{part[1:]}"
