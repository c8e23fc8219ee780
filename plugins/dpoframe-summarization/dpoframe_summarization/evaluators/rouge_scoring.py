"""ROUGE of plain texts by the `rouge-score` package; also the program of the processes that share the work.

    python -m dpoframe_summarization.evaluators.rouge_scoring '{"stemmer": true, "rule": true, "unicode": false}'

writes an empty line when it is ready, reads one JSON list of [references, summary] a line from stdin and answers each line with one
list of figures on stdout.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TextIO, TypeAlias

from dpoframe_summarization.evaluators.sentences import sentences
from dpoframe_summarization.evaluators.words import words

Job: TypeAlias = tuple[Sequence[str], str]
"""References and a summary."""

TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
FIGURES = tuple(f"{kind}{ending}" for kind in TYPES for ending in ("", "_precision", "_recall"))
"""F measure, precision and recall of each kind."""

_STEMS = 1 << 17


@dataclass(frozen=True)
class Settings:
    """What decides the numbers.

    Attributes:
        stemmer: Whether words of more than three letters lose their endings (Porter), as in `rouge-score`.
        rule: Whether sentences are found by rule; else lines are sentences.
        unicode: Whether letters of all scripts make words; else a-z and digits alone, as in `rouge-score`.
    """

    stemmer: bool
    rule: bool
    unicode: bool

    def text(self) -> str:
        """As the program is given them."""
        return json.dumps(asdict(self))


def rouge_of(settings: Settings, jobs: Sequence[Job]) -> list[list[float]]:
    """The figures of each summary, in the order of `FIGURES`; of several references the best one for each kind, by F."""
    return [_figures(settings, references, summary) for references, summary in jobs]


def _figures(settings: Settings, references: Sequence[str], summary: str) -> list[float]:
    # `rouge-score` asserts equal types where Lsum alone sees empty texts, and reads lines as sentences.
    split = _lines if settings.rule else str
    found = _scorer(settings).score_multi([split(one) for one in references], split(summary))
    return [float(value) for kind in TYPES for value in (found[kind].fmeasure, found[kind].precision, found[kind].recall)]


def _lines(text: str) -> str:
    return "\n".join(sentences(text))


@functools.lru_cache(maxsize=8)
def _scorer(settings: Settings) -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

    return RougeScorer(list(TYPES), tokenizer=_Tokenizer(settings))


class _Tokenizer:
    """The tokenizer of `rouge-score`, or that of all scripts; each word is stemmed once, which halves the time of scoring."""

    def __init__(self, settings: Settings) -> None:
        self._unicode, self._stemmer = settings.unicode, _Stems() if settings.stemmer else None

    def tokenize(self, text: str) -> list[str]:
        """The words."""
        if not self._unicode:
            from rouge_score import tokenize  # type: ignore[import-untyped]

            found: list[str] = tokenize.tokenize(text, self._stemmer)
            return found
        plain = words(text)
        return plain if self._stemmer is None else [self._stemmer.stem(one) if _has_stem(one) else one for one in plain]


class _Stems:
    """Porter's stemmer with a memory."""

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer  # type: ignore[import-untyped]

        self.stem = functools.lru_cache(maxsize=_STEMS)(PorterStemmer().stem)


def _has_stem(word: str) -> bool:
    """The stemmer knows English alone; `rouge-score` leaves words of three letters."""
    return len(word) > 3 and word.isascii()


def answers(settings: Settings, lines: TextIO) -> Iterator[str]:
    """An empty line when everything is loaded, then one line of figures a line of jobs."""
    rouge_of(settings, [(["ready"], "ready")])
    yield ""
    for line in lines:
        yield json.dumps(rouge_of(settings, json.loads(line)))


if __name__ == "__main__":
    for _answer in answers(Settings(**json.loads(sys.argv[1])), sys.stdin):
        sys.stdout.write(_answer + "\n")
        sys.stdout.flush()
