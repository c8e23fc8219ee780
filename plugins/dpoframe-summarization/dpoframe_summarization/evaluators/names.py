"""The names in a text: words that begin with a capital letter where the language asks for none."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import regex  # type: ignore[import-untyped]

from dpoframe_summarization.evaluators.sentences import sentences
from dpoframe_summarization.evaluators.texts import seen

# A word with its apostrophes (O'Brien) and dots (U.S.); hyphens part words.
_WORD = regex.compile(r"(?:\p{L}\.){2,}|[\p{L}\p{M}]+(?:['\u2019][\p{L}\p{M}]+)*")
_POSSESSIVE = regex.compile(r"['\u2019][sS]?$")
_OPENING = regex.compile(r"[\"\u201c\u201e\u00ab(\[:;\u2022*]\s*$|(?:^|\s)['\u2018`]+\s*$|^\W*$")
_JOINED = regex.compile(r"[\s\u00a0-]+")
_BETWEEN = "of the de da di del della van von der den bin ibn al el la le du dos upon y"
_PLAIN = """
    i mr mrs ms miss dr sir lord lady prof st the a an and or but if in on at to of for by with from as it he she they we you this
    that these those is was are were be not no yes ok
"""
_CONNECTING = frozenset(_BETWEEN.split())
_NO_NAMES = frozenset(_PLAIN.split())
_ENDINGS = ("s", "n", "an", "ian", "ean", "y", "ish", "ese", "ic", "i", "er", "ers")
_HEADLINE = 4


@dataclass(frozen=True)
class Name:
    """A name as it stands in a text, and its words in the form in which they are compared."""

    text: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Known:
    """What a source knows.

    Attributes:
        words: Its words.
        acronyms: Those of them that are all capitals.
        initials: The initials of its capitalised runs.
    """

    words: frozenset[str]
    acronyms: frozenset[str]
    initials: frozenset[str]

    def holds(self, name: Name) -> bool:
        """Whether every word of a name is known, or the name and a run of the source are each other's initials."""
        whole = "".join(name.words)
        if all(map(self._has, name.words)):
            return True
        if len(name.words) == 1:
            return whole in self.initials and sum(letter.isupper() for letter in name.text) > 1
        return whole in self.words or "".join(word[0] for word in name.words) in self.acronyms

    def _has(self, word: str) -> bool:
        if word in self.words:
            return True
        shorter = (word.removesuffix(ending) for ending in _ENDINGS if word.endswith(ending))
        longer = (word + ending for ending in _ENDINGS)
        return len(word) >= 4 and any(len(one) >= 4 and one in self.words for one in (*shorter, *longer))


@functools.lru_cache(maxsize=256)
def names(text: str) -> tuple[Name, ...]:
    """The names of a text, each mention counted, in their order.

    A run of capitalised words is one name, with small words between them (Bank of England). What begins a sentence, a quotation or
    a list item is capitalised anyway: its first word counts only where it is an acronym (NASA), or where the text writes it with
    a capital elsewhere. Titles (Mr) and function words are no names. A sentence of four words and more, all in
    capitals, is a headline: it says nothing of names and is left out.
    """
    kept = [one for one in (_words_of(sentence) for sentence in sentences(seen(text))) if not _shouts(one)]
    inside = frozenset(word.form for sentence in kept for word in sentence if word.capital and not word.first)
    return tuple(name for sentence in kept for name in _runs(sentence, inside))


@functools.lru_cache(maxsize=64)
def known(source: str) -> Known:
    """What may be named in a summary of a source."""
    text = seen(source)
    found = _words_of(text)
    parts = {part for word in found for part in regex.split(r"['\u2019]", word.text.lower())}
    # "Bank of England" gives BE and BoE; a run longer than seven words is a headline.
    runs = (run for length in range(2, 8) for run in _capitals(found, length))
    held = {word.form for word in found} | {fold(part) for part in parts}
    return Known(frozenset(held), frozenset(word.form for word in found if word.acronym), frozenset(runs))


def has_capitals(text: str) -> bool:
    """Whether a text is in a script that has capital letters at all."""
    return any(letter.lower() != letter.upper() for letter in text)


def fold(word: str) -> str:
    """A word without case, accents, apostrophes and dots."""
    plain = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in plain if letter.isalnum())


@dataclass(frozen=True)
class _Word:
    """A word of a sentence.

    Attributes:
        text: As it is written, without a possessive ending.
        form: As it is compared.
        capital: Whether its first letter is a capital.
        first: Whether it stands where any word would have one.
        between: What lies between the word before and this one.
    """

    text: str
    form: str
    capital: bool
    first: bool = False
    between: str = ""

    @classmethod
    def of(cls, found: regex.Match[str], text: str, before: int = 0) -> _Word:
        """The word of a match; `before` is where the word before it ends."""
        word, between = _POSSESSIVE.sub("", found[0]), text[before : found.start()]
        start = found.start() == 0 or _OPENING.search(text[max(0, found.start() - 8) : found.start()]) is not None
        return cls(word, fold(word), word[:1].isupper() or word[:1].istitle(), start, between)

    @property
    def acronym(self) -> bool:
        """Whether it is all capitals."""
        letters = [letter for letter in self.text if letter.isalpha()]
        return len(letters) > 1 and all(letter.isupper() for letter in letters)


def _words_of(sentence: str) -> list[_Word]:
    found, before = [], 0
    for match in _WORD.finditer(sentence):
        found.append(_Word.of(match, sentence, before))
        before = match.end()
    return found


def _shouts(sentence: list[_Word]) -> bool:
    """Whether capitals say nothing: but for function words, all words have one."""
    small = _CONNECTING | _NO_NAMES
    return sum(word.capital for word in sentence) >= _HEADLINE and all(word.capital or word.form in small for word in sentence)


def _names_something(word: _Word, inside: frozenset[str]) -> bool:
    if not word.capital or word.form in _NO_NAMES or len(word.form) < 2:
        return False
    return not word.first or word.acronym or word.form in inside


def _runs(sentence: list[_Word], inside: frozenset[str]) -> Iterator[Name]:
    """The names of one sentence."""
    run: list[_Word] = []
    between: list[_Word] = []
    for word in sentence:
        if not _JOINED.fullmatch(word.between) or not (_names_something(word, inside) or (run and word.form in _CONNECTING)):
            yield from _name(run)
            run, between = [], []
        if _names_something(word, inside):
            run, between = [*run, *between, word], []
        elif run:
            between.append(word)
    yield from _name(run)


def _name(run: list[_Word]) -> Iterator[Name]:
    if run:
        told = [word for word in run if word.capital]
        text = run[0].text + "".join(word.between + word.text for word in run[1:])
        yield Name(text, tuple(word.form for word in told))


def _capitals(found: list[_Word], length: int) -> Iterator[str]:
    """Initials of the runs of so many words that begin and end with a capital; small words inside count or not."""
    for start, word in enumerate(found):
        run = found[start : start + length] if word.capital else []
        if len(run) == length and run[-1].capital and all(one.capital or one.form in _CONNECTING for one in run):
            yield "".join(one.form[:1] for one in run)
            yield "".join(one.form[:1] for one in run if one.capital)
