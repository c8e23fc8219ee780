"""Words of any language, without a model: rules on Unicode's scripts and categories."""

from __future__ import annotations

import unicodedata

import regex  # type: ignore[import-untyped]

from dpoframe_summarization.evaluators.texts import seen

# Scripts that are written without spaces between words. Each of their letters, with the marks on it, stands for itself; their
# digits make one word in a row, as those of other scripts do.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_WORD = regex.compile(rf"[{_UNSPACED}&&\p{{L}}]\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}&&[\p{{L}}\p{{M}}]]]+", regex.V1)


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation.

    Letters, combining marks and digits of any script make words; equal characters in other encodings are made one (NFKC,
    case folding). A letter of a script without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan) is a word.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen(text)).casefold())
    found: list[str] = _WORD.findall(folded)
    return found
