"""Undoing what tokenizers did to texts: spaces before commas, `did n't`, names in lower case."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from dpoframe_summarization.articles.article import Article, Summary

if TYPE_CHECKING:
    from nltk.tokenize.treebank import TreebankWordDetokenizer  # type: ignore[import-untyped]

_WORD = re.compile(r"[^\W\d_]+")


def tidy(article: Article) -> Article:
    """The article with its texts as people write them.

    Tokens are put together by nltk's Treebank detokenizer. A summary's word that the article writes only with a capital is
    written so; a summary's sentences begin with one.
    """
    source = joined(article.source)
    cases = _cases(source)
    return replace(
        article,
        source=source,
        references=tuple(_cased(joined(text), cases) for text in article.references),
        summaries=tuple(Summary(_cased(joined(one.text), cases), one.ratings, one.system) for one in article.summaries),
    )


def joined(text: str) -> str:
    """Tokens put together, line by line."""
    lines = (_detokenizer().detokenize(_opened(line).split()) for line in text.split("\n"))
    return "\n".join(re.sub(r"(\d) - (?=\w)", r"\1-", line) for line in lines)


def _opened(line: str) -> str:
    """A quote that sticks to the word after it is one that opens, which the detokenizer takes as two backticks."""
    return re.sub(r"(?<!\S)` (?=\S)", "'", line)


def _cases(source: str) -> dict[str, str]:
    """Words that a text never writes in lower case, by their lower case, as it writes them most often."""
    seen: dict[str, Counter[str]] = {}
    for word in _WORD.findall(source):
        seen.setdefault(word.lower(), Counter())[word] += 1
    return {
        lower: forms.most_common(1)[0][0]
        for lower, forms in seen.items()
        if lower not in forms and lower != "i" and not _begins_only(source, lower)
    }


def _begins_only(source: str, lower: str) -> bool:
    """Whether a word stands at beginnings of sentences alone, where its capital says nothing."""
    return not re.search(rf"[\w,;:'\u2019)-]\s+{re.escape(lower)}\b", source, re.IGNORECASE)


def _cased(text: str, cases: dict[str, str]) -> str:
    named = _WORD.sub(lambda match: cases.get(match[0], match[0]) if match[0].islower() else match[0], text)
    return re.sub(r"(^|[.!?]\s+)(['\"]?)([^\W\d_])", lambda match: match[1] + match[2] + match[3].upper(), named)


@cache
def _detokenizer() -> TreebankWordDetokenizer:
    from nltk.tokenize.treebank import TreebankWordDetokenizer

    return TreebankWordDetokenizer()
