"""One labelled text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dpoframe import RefusedRow


@dataclass(frozen=True)
class Record:
    """A text and what is known of it. What a source does not say is unknown; it is never taken for a no.

    Attributes:
        id: Stable name, unique in its source.
        text: The text as it stands there.
        unsafe: The verdict; None where it does not follow from what is known.
        labels: Whether the text is of a category, by the category's key; categories that nobody judged are not in it.
        source: File or data set.
        row: Number of the row there, from 1.
        group: What else tells rows apart (functionality, target, type, author).
        kin: Texts of one kin stay in one part; the text itself unless given.
    """

    id: str
    text: str
    unsafe: bool | None
    labels: Mapping[str, bool]
    source: str
    row: int = 0
    group: Mapping[str, str] = field(default_factory=dict)
    kin: str = ""

    def refuse(self, code: str, reason: str) -> RefusedRow:
        """The record's row as a refusal."""
        return RefusedRow(self.source, self.row, code, reason)
