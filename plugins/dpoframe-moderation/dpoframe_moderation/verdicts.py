"""What a moderator's answer says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from dpoframe_moderation.bare import bare
from dpoframe_moderation.taxonomy import Taxonomy, plain

Verdict: TypeAlias = Literal["safe", "unsafe"]

NO_VERDICT = "no-verdict"
TWO_VERDICTS = "two-verdicts"
OUTSIDE = "outside-taxonomy"
SAFE_WITH_CATEGORIES = "safe-with-categories"

_MARKS = re.compile(r"[*_`~#>\\]+")
# Not within a longer word; letters of other scripts may touch it, because not every language puts blanks between words.
_WORD = r"(?<![a-z0-9-])(?P<word>unsafe|safe)(?![a-z0-9-])"
# A denial reaches over a few words (`not at all safe`, `I don't think this is safe`), not over what begins another statement.
_OVER = r"(?:(?!only\b|just\b|and\b|but\b|so\b|or\b|because\b|hence\b|(?:un)?safe\b)[^\W\d_]+\s+){0,3}?"
_MENTION = re.compile(
    rf"(?:(?P<open>\b(?:whether|if))\s+{_OVER}|(?P<no>\b(?:not|never|hardly)|n['\u2019]t)\s+{_OVER})?{_WORD}"
    r"(?:[\"']?\s*[:=]\s*[\"']?(?P<value>true|false|yes|no)\b)?"
)
_ATOMS = re.compile(r"(?:^|\n)\s*(?:[-+]|\d+[.)])\s|[,;:|(){}\[\]\"\n•]|\.(?=\s|$)|\band\b|&")
_HEADINGS = {"category", "categories", "label", "labels", "reason", "reasons", "violated categories", "verdict", ""}
_MOST_PARTS = 4


@dataclass(frozen=True)
class Parsed:
    """An answer, read.

    Attributes:
        verdict: `safe` or `unsafe`; None where the answer names neither, or both.
        categories: Keys of the categories that it names; empty without the verdict `unsafe`.
        problem: `no-verdict`, `two-verdicts`, `outside-taxonomy` (the verdict holds, some category is not one of the taxonomy's),
            `safe-with-categories` (the same), or empty.
        outside: What it names in place of a category, as it stands there.
    """

    verdict: Verdict | None
    categories: frozenset[str] = frozenset()
    problem: str = ""
    outside: tuple[str, ...] = ()


def parse(answer: str, taxonomy: Taxonomy) -> Parsed:
    """Reads an answer such as `safe` or `unsafe`, below it `hate, violence`.

    Case, Markdown, control and zero-width characters and full-width letters make no difference; `not safe` and `not at all safe`
    are unsafe, and so is `"safe": false`; `whether it is safe` says neither. The verdict may stand anywhere, but all that is said
    of it must agree. Categories follow it: keys or words of the taxonomy, one a line or with commas between them.
    """
    text = _MARKS.sub(" ", bare(answer).casefold())
    mentions = [mention for mention in _MENTION.finditer(text) if not mention["open"]]
    verdicts = {_said(mention) for mention in mentions}
    if len(verdicts) != 1:
        return Parsed(None, problem=TWO_VERDICTS if verdicts else NO_VERDICT)
    (verdict,) = verdicts
    known, outside = _categories(text[mentions[-1].end() :], taxonomy)
    if verdict == "safe":
        return Parsed(verdict, problem=SAFE_WITH_CATEGORIES if known else "")
    return Parsed(verdict, frozenset(known), OUTSIDE if outside else "", outside)


def written(unsafe: bool, categories: Iterable[str], taxonomy: Taxonomy) -> str:
    """The canonical answer: `safe`, `unsafe`, or `unsafe` and on the next line the words of these categories."""
    if not unsafe:
        return "safe"
    words = ", ".join(taxonomy.words(key) for key in taxonomy.ordered(frozenset(categories)))
    return f"unsafe\n{words}" if words else "unsafe"


def _said(mention: re.Match[str]) -> Verdict:
    """What one mention says, with what denies it."""
    unsafe = (mention["word"] == "unsafe") ^ bool(mention["no"]) ^ (mention["value"] in ("false", "no"))
    return "unsafe" if unsafe else "safe"


def _categories(text: str, taxonomy: Taxonomy) -> tuple[list[str], tuple[str, ...]]:
    """Keys of the categories that a list names, and what is none."""
    known, outside = [], []
    for words, key in _named([atom.strip(" \t\r-'.!") for atom in _ATOMS.split(text)], taxonomy):
        if key is not None:
            known.append(key)
        elif plain(words) not in _HEADINGS:
            outside.append(words)
    return known, tuple(outside)


def _named(atoms: list[str], taxonomy: Taxonomy) -> Iterator[tuple[str, str | None]]:
    """Each category with its words; names that hold commas or `and` take several atoms."""
    place = 0
    while place < len(atoms):
        for parts in range(min(_MOST_PARTS, len(atoms) - place), 0, -1):
            words = " ".join(atoms[place : place + parts])
            key = taxonomy.key(words)
            if key is not None or parts == 1:
                yield words, key
                place += parts
                break
