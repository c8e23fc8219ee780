"""How often an answer is short, complete, opens without filler, and says more than the question."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dpoframe.evaluator import Evaluator, EvaluatorSpec, Scale
from dpoframe.types import Sample, as_text

OPENINGS = (
    "absolutely", "as an ai", "certainly", "good question", "great question", "i would be happy", "i'd be happy",
    "i'm glad you", "in order to", "in this answer", "it depends on many", "it is important to", "it's important to",
    "let me explain", "let us", "let's", "of course", "sure", "thank you for", "that is a", "that's a", "that is an",
    "that's an", "the answer lies", "the answer to that", "the answer to this", "the answer to your",
    "there are a number of", "there are many", "there are several", "there are various", "to answer", "to understand",
    "when it comes to", "you are asking", "you're asking",
)  # fmt: skip
"""Openings, lower case, that delay an English answer."""

_OPENING = re.compile(rf"\W*(?:{'|'.join(map(re.escape, OPENINGS))})\b")

_WORD = re.compile(r"\w+")
_EMPTY = frozenset(("a", "an", "the", "my", "your", "his", "her", "its", "our", "their"))


@dataclass(frozen=True)
class Directness(Evaluator):
    """Share of answers that the model ends itself within `words` words, that open with no filler and add to the question.

    An answer adds to the question where it holds a word that the question does not, articles and possessives
    aside; where the question offers a choice by `or`, any word will do. The filler phrases are `OPENINGS`; the measure
    is for English. It says nothing about truth or use: `The art of drawing.` adds a word to `How do I get better at
    drawing?`. Read it beside `contains_expected`.

    Attributes:
        words: The most words, split at white space, that a direct answer may have.
    """

    words: int = 30
    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec(
        id="directness", version="2", needs="response", metrics={"rate": Scale(0.0, 1.0, "share")}, primary="rate"
    )

    def score(self, sample: Sample) -> Mapping[str, float]:
        """1 for a direct answer, else 0; an empty one is not direct."""
        text = as_text(sample.response).lower().replace("\u2019", "'")
        short = len(text.split()) <= self.words and sample.finished
        return {"rate": float(short and not _OPENING.match(text) and _adds(text, as_text(sample.prompt).lower()))}


def _adds(answer: str, question: str) -> bool:
    """Whether the answer says more than the question did."""
    said, asked = set(_WORD.findall(answer)), set(_WORD.findall(question))
    return bool(said if "or" in asked else said - asked - _EMPTY)
