"""The labels of a classifier, and what a response says of them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from dpoframe import ConfigError, Content, DataError
from dpoframe_moderation.taxonomy import OVERALL, TAXONOMIES, plain, taxonomy

NOT = "not"
UNSAFE = "unsafe"
"""The label of the verdict as a whole."""


@dataclass(frozen=True)
class Term:
    """One label of a response, and whether the response says that the text has it."""

    index: int
    positive: bool


@dataclass(frozen=True)
class Labels:
    """The outputs of a head, in order.

    Attributes:
        names: What responses call them.
        multi: Whether a text may have several. Then a response says `hate` or `not hate`; else it is a label's name.
    """

    names: tuple[str, ...]
    multi: bool = True

    def __post_init__(self) -> None:
        """ConfigError for names that responses could not tell apart."""
        known = [plain(name) for name in self.names]
        wrong = [name for name, bare in zip(self.names, known, strict=True) if not bare or bare.split()[0] == NOT or "\n" in name]
        if wrong or len(set(known)) < len(known):
            told = ", ".join(repr(name) for name in wrong or self.names)
            raise ConfigError(f"These labels cannot be used: {told}. Give different names that do not begin with 'not'.")

    def read(self, response: Content, pair_id: str) -> tuple[Term, ...]:
        """The labels that a response names, one a line; what it says is true where all of them are.

        Raises:
            DataError: It names no label, one that the classifier does not have, or one label twice.
        """
        lines = [line for line in said(response).splitlines() if plain(line)]
        terms = tuple(self._term(line.strip(), pair_id) for line in lines)
        if not terms:
            raise DataError(f"The response of {pair_id} names no label. {self.expected}")
        if len({term.index for term in terms}) < len(terms) or (len(terms) > 1 and not self.multi):
            raise DataError(f"The response of {pair_id} says too much: {'; '.join(lines)}. {self.expected}")
        return terms

    @property
    def expected(self) -> str:
        """What a response may be, for errors."""
        if not self.multi:
            return f"Expected one of {', '.join(self.names)}."
        return f"Expected a label, or '{NOT}' and a label, one a line and none twice. There are: {', '.join(self.names)}."

    def _term(self, line: str, pair_id: str) -> Term:
        bare = plain(line)
        denied = self.multi and bare.startswith(f"{NOT} ")
        bare = bare.removeprefix(f"{NOT} ") if denied else bare
        if bare not in self._places:
            near = difflib.get_close_matches(bare, self._places, 1)
            hint = f" Did you mean {self.names[self._places[near[0]]]!r}?" if near else ""
            raise DataError(f"The response of {pair_id} names {line!r}, which is no label of the classifier.{hint} {self.expected}")
        return Term(self._places[bare], not denied)

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {plain(name): index for index, name in enumerate(self.names)}


def said(content: Content) -> str:
    """The text of a prompt or response: of chat messages, that of the last one that the user wrote, or else of the last.

    Raises:
        DataError: It is no text.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, (list, tuple)) or not content:
        raise DataError(f"A classifier takes text or chat messages, found {type(content).__name__}.")
    written = [message for message in content if message.get("role") == "user"] or list(content)
    text = written[-1].get("content")
    if not isinstance(text, str):
        raise DataError(f"A classifier takes messages whose content is text, found {type(text).__name__}.")
    return text


def named(given: tuple[str, ...] | str) -> tuple[str, ...]:
    """The labels that a recipe asks for: those listed, or `unsafe` and the categories of the taxonomy that is named.

    Labels of a taxonomy that excludes, such as `davidson`, are `safe` and its categories.
    """
    if not isinstance(given, str):
        return given
    found = taxonomy(given)
    words = tuple(found.categories.values())
    return ("safe", *words) if found.exclusive else (found.words(OVERALL), *words)


def exclusive(given: tuple[str, ...] | str) -> bool:
    """Whether a taxonomy of that name says that a text is of one category at most."""
    return isinstance(given, str) and given in TAXONOMIES and TAXONOMIES[given].exclusive
