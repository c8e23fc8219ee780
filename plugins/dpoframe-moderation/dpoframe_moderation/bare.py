"""Text without what a reader cannot see."""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = {"Cc", "Cf", "Cs", "Co"}
_KEPT = "\n\t\r"
_PLAIN = re.compile(r"[\n\t\r -~]*")


def bare(text: str) -> str:
    """The text in compatibility form (NFKC) without control, zero-width and other invisible characters; line ends stay."""
    if _PLAIN.fullmatch(text):
        return text
    kept = (mark for mark in text if mark in _KEPT or unicodedata.category(mark) not in _INVISIBLE)
    return unicodedata.normalize("NFKC", "".join(kept))


def likeness(text: str) -> str:
    """What two spellings of one text have in common: `bare`, without case, each white space one blank."""
    return re.sub(r"\s+", " ", bare(text).casefold()).strip()
