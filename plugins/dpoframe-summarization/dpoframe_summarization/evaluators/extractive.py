"""How much of a summary is copied from its source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from dpoframe import Evaluator, EvaluatorSpec, Sample, Scale
from dpoframe_summarization.evaluators.example import EXAMPLES
from dpoframe_summarization.evaluators.texts import source_of, summary_of
from dpoframe_summarization.evaluators.words import words

_SHARE = Scale(0.0, 1.0, "share", None)
_NOVEL = (1, 2, 3)


@dataclass(frozen=True)
class Extractive(Evaluator):
    """Extractive coverage, density and compression (Grusky et al. 2018, arXiv 1804.11283, section 4), and novel n-grams.

    Fragments are runs of words that summary and source share, found by the paper's greedy search. With S the words of the
    summary and A those of the source, `coverage` is the share of S inside fragments, `density` the mean over S of the length
    of the fragment that a word stands in, `compression` |A| / |S|. `novel_1`, `novel_2`, `novel_3` are the shares of the
    summary's n-grams that the source lacks, each occurrence counted; a summary of fewer than n words has none.

    Words are compared in lower case and without punctuation, in all scripts (see `words`); the paper's own tokens include
    punctuation, so compare with numbers made here. Neither direction is better: a copy is safe, and says nothing new. A
    summary without words is unscored.
    """

    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec(
        id="extractive",
        version="0.1.0",
        needs="response",
        metrics={
            "coverage": _SHARE,
            "density": Scale(0.0, None, "words", None),
            "compression": Scale(0.0, None, "ratio", None),
            **{f"novel_{n}": _SHARE for n in _NOVEL},
        },
        primary="coverage",
        limit=300.0,
    )

    def score(self, sample: Sample) -> Mapping[str, float] | None:
        """All figures that the summary is long enough for."""
        source, summary = words(source_of(sample)), words(summary_of(sample))
        if not summary:
            return None
        runs = [length for _, length in fragments(source, summary)]
        found = {
            "coverage": sum(runs) / len(summary),
            "density": sum(length**2 for length in runs) / len(summary),
            "compression": len(source) / len(summary),
        }
        return {**found, **{f"novel_{n}": novel(source, summary, n) for n in _NOVEL if len(summary) >= n}}

    @classmethod
    def example_samples(cls) -> list[Sample]:
        """What `dpoframe plugins check` scores."""
        return list(EXAMPLES)


def fragments(source: Sequence[str], summary: Sequence[str]) -> list[tuple[int, int]]:
    """Start and length in the summary of each extractive fragment: figure 3 of the paper.

    At each word of the summary the longest run that begins there wins. As in the paper, the search in the source goes on behind
    a run that matched. Only places of the source that hold the word are looked at, which finds the same.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, word in enumerate(source):
        places[word].append(place)
    found, at = [], 0
    while at < len(summary):
        length = _longest(source, summary, at, places.get(summary[at], ()))
        if length:
            found.append((at, length))
        at += max(length, 1)
    return found


def novel(source: Sequence[str], summary: Sequence[str], n: int) -> float:
    """Share of the summary's n-grams that the source lacks; the summary has at least n words."""
    there = set(_grams(source, n))
    grams = _grams(summary, n)
    return sum(gram not in there for gram in grams) / len(grams)


def _longest(source: Sequence[str], summary: Sequence[str], at: int, places: Sequence[int]) -> int:
    """Length of the longest run from a place of the summary."""
    best = after = 0
    for start in places:
        if start >= after:
            length = _run(source, summary, start, at)
            best, after = max(best, length), start + length
    return best


def _run(source: Sequence[str], summary: Sequence[str], start: int, at: int) -> int:
    """How many words are equal from two places on."""
    length, most = 0, min(len(source) - start, len(summary) - at)
    while length < most and source[start + length] == summary[at + length]:
        length += 1
    return length


def _grams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(tokens[shift:] for shift in range(n)), strict=False))
