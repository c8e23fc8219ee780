"""One article and what was written about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from dpoframe import RefusedRow


@dataclass(frozen=True)
class Summary:
    """A summary by somebody or something.

    Attributes:
        text: The summary.
        ratings: What people gave it, by the name of the question; higher is better. Empty where nobody rated it.
        system: Who wrote it.
    """

    text: str
    ratings: Mapping[str, float] = field(default_factory=dict)
    system: str = ""

    @property
    def key(self) -> str:
        """Letters and digits alone, without case: equal for texts that differ in spaces and punctuation."""
        return "".join(re.findall(r"\w", self.text.casefold()))


@dataclass(frozen=True)
class Article:
    """An article with its summaries.

    Attributes:
        id: Its name in the data set.
        source: The article.
        references: Summaries by people, the first of which is the published one.
        summaries: Summaries by systems.
        origin: The file or data set.
        row: Number of the row in it, from 1.
        removed: How many control and zero-width characters were taken out of its texts.
    """

    id: str
    source: str
    references: tuple[str, ...] = ()
    summaries: tuple[Summary, ...] = ()
    origin: str = ""
    row: int = 0
    removed: int = 0

    def refuse(self, code: str, reason: str) -> RefusedRow:
        """The article's row as a refusal."""
        return RefusedRow(self.origin, self.row, code, f"{reason} (article {self.id})" if self.id else reason)
