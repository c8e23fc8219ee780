"""Counting words, and keeping the beginning of a text."""

from __future__ import annotations

import re

# Scripts that are written without spaces: Thai, Lao, Myanmar, Khmer, kana, Chinese characters. Each character counts as a word.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")


def count(text: str) -> int:
    """Words between spaces; in scripts that are written without spaces, characters."""
    return sum(1 for _ in _WORD.finditer(text))


def beginning(text: str, words: int) -> str:
    """The text up to its `words`-th word, spaces and lines as they are."""
    for number, match in enumerate(_WORD.finditer(text), start=1):
        if number == words:
            return text[: match.end()]
    return text
