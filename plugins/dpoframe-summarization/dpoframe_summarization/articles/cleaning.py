"""Texts as they should be: without what cannot be seen, and without the marks of a tokenizer."""

from __future__ import annotations

import itertools
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from dpoframe_summarization.articles.broken import BrokenError

# Zero-width space, word joiner, byte order mark, soft hyphen, and the marks that turn the direction of writing. The two joiners
# stay: Persian and the scripts of India spell with them.
_UNSEEN = {"\u200b", "\u2060", "\ufeff", "\u00ad", "\u200e", "\u200f", *map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))}
# Chinese and Japanese put no space behind the marks that end a sentence.
_END = re.compile(r"[.!?](?=\s)|[\u3002\uff01\uff1f]+[\u300d\u300f\uff09\u201d\u2019]*")


@dataclass(frozen=True)
class Clean:
    """A text and how many characters it lost."""

    text: str
    removed: int = 0


def clean(value: Any, name: str) -> Clean:
    """A text without control and zero-width characters; a list of sentences is joined by spaces.

    Raises:
        BrokenError: It is no text, or empty, or holds a NUL or half a character.
    """
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        value = " ".join(part.strip() for part in value)
    if value is not None and not isinstance(value, str):
        raise BrokenError("wrong-type", f"'{name}' must be text or a list of sentences, found {type(value).__name__}.")
    _check(value or "", name)
    kept = "".join(map(_seen, value or ""))
    text = re.sub(r"[ \t]{2,}", " ", kept).strip()
    if not text:
        raise BrokenError(f"empty-{name}", f"'{name}' is missing, empty or blank.")
    return Clean(text, sum(map(_is_unseen, value or "")))


def lead(text: str, most: int) -> str:
    """The first sentences of a text, by the marks that end them, in one line."""
    ends = list(itertools.islice(_END.finditer(text), most))
    kept = text[: ends[-1].end()] if len(ends) == most else text
    return re.sub(r"(?<=[.!?\u3002\uff01\uff1f])\s+", " ", kept)


def _check(text: str, name: str) -> None:
    if "\0" in text:
        raise BrokenError("control-character", f"'{name}' holds a NUL character at position {text.index(chr(0)) + 1}.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BrokenError("not-utf8", f"'{name}' holds half a character at position {error.start + 1}.") from error


def _is_unseen(character: str) -> bool:
    return character in _UNSEEN or (unicodedata.category(character) == "Cc" and character not in "\n\t\r")


def _seen(character: str) -> str:
    if character in _UNSEEN:
        return ""
    return " " if _is_unseen(character) else character
