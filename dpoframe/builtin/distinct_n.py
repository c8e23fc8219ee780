"""How varied the wording of an answer is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dpoframe.evaluator import Evaluator, EvaluatorSpec, Scale
from dpoframe.types import Sample, as_text


@dataclass(frozen=True)
class DistinctN(Evaluator):
    """Distinct n-grams of words over all n-grams of an answer, averaged over answers (after Li et al. 2016, section 5).

    Longer answers score lower whatever their quality, so read it beside the length. An answer shorter than n words
    is unscored.

    Attributes:
        n: Words of an n-gram.
    """

    n: int = 2
    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec(
        id="distinct_n",
        version="1",
        needs="response",
        metrics={"ratio": Scale(0.0, 1.0, "ratio", None)},
        primary="ratio",
    )

    def score(self, sample: Sample) -> Mapping[str, float] | None:
        """The ratio of one answer."""
        words = as_text(sample.response).lower().split()
        grams = [tuple(words[start : start + self.n]) for start in range(len(words) - self.n + 1)]
        return {"ratio": len(set(grams)) / len(grams)} if grams else None
