"""How often an answer is short, complete, and begins with the answer."""

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


@dataclass(frozen=True)
class Directness(Evaluator):
    """Share of answers that the model ends itself within `words` words and does not open with a filler phrase.

    The filler phrases are `OPENINGS`; the measure is for English. It says nothing about truth: read it beside
    `contains_expected`.

    Attributes:
        words: The most words, split at white space, that a direct answer may have.
    """

    words: int = 30
    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec(
        id="directness", version="1", needs="response", metrics={"rate": Scale(0.0, 1.0, "share")}, primary="rate"
    )

    def score(self, sample: Sample) -> Mapping[str, float]:
        """1 for a direct answer, else 0; an empty one is not direct."""
        text = as_text(sample.response)
        short = 0 < len(text.split()) <= self.words
        return {"rate": float(short and sample.finished and not _OPENING.match(text.lower()))}
