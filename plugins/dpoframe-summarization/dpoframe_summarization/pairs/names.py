"""Names in a text that has capitals: the ones that an article swaps into a summary of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

# Small words inside a name, as in "Bank of England".
_LINKS = frozenset({"of", "de", "la", "van", "von", "bin", "al"})
_WORD = re.compile(r"\w[\w\u2019'-]*\w|\w")
_BEGINS = re.compile(r"[.!?:\n\"\u201c'\u2018(]\s*$")
_COMMON = frozenset(
    re.findall(
        r"\w+",
        """a an and as at but by for from he her hers him his how i if in it its my no not of on or our she so some such than that
        the their them then there these they this those to was we were what when where which while who why with you your monday
        tuesday wednesday thursday friday saturday sunday january february march april may june july august september october
        november december""",
    )
)


def names_in(source: str) -> list[str]:
    """Names in an article, each once, in their order: runs of words with capitals.

    A single word at the beginning of a sentence counts only where it has its capital elsewhere too.
    """
    found: dict[str, None] = {}
    for start, run in _runs(source):
        name = re.sub(r"['\u2019]s$", "", " ".join(_trimmed(run)))
        begins = start == 0 or _BEGINS.search(source[max(0, start - 5) : start])
        if len(name) > 1 and (" " in name or not begins or re.search(rf"[\w,]\s+{re.escape(name)}\b", source)):
            found.setdefault(name)
    return list(found)


def found_in(summary: str, names: Sequence[str]) -> list[str]:
    """Those of `names` that a summary has, whatever their case; longer ones first, and none inside another."""
    rest, kept = summary, []
    for name in sorted(names, key=lambda one: (-len(one), one)):
        if _pattern(name).search(rest):
            kept.append(name)
            rest = _pattern(name).sub(" | ", rest)
    return kept


def swapped(summary: str, name: str, other: str) -> str:
    """The summary with `other` wherever it has `name`, in lower case where it has that one so."""
    return _pattern(name).sub(lambda match: other.lower() if match[0].islower() else other, summary)


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)


def _runs(source: str) -> Iterator[tuple[int, list[str]]]:
    """Words with capitals that nothing but spaces and linking words divides, and where the first stands."""
    run: list[re.Match[str]] = []
    for word in _WORD.finditer(source):
        if run and (source[run[-1].end() : word.start()].strip() or "\n" in source[run[-1].end() : word.start()]):
            yield run[0].start(), [one[0] for one in run]
            run = []
        if word[0][0].isupper() or (run and word[0] in _LINKS):
            run.append(word)
        elif run:
            yield run[0].start(), [one[0] for one in run]
            run = []
    if run:
        yield run[0].start(), [one[0] for one in run]


def _trimmed(run: Sequence[str]) -> list[str]:
    """A run without the common and linking words at its ends ("The", "On Monday")."""
    words = list(run)
    while words and (words[0].lower() in _COMMON or words[0] in _LINKS):
        words.pop(0)
    while words and (words[-1].lower() in _COMMON or words[-1] in _LINKS):
        words.pop()
    return words
