"""How long the answers are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dpoframe.evaluator import Evaluator, EvaluatorSpec, Scale
from dpoframe.types import Sample, as_text


@dataclass(frozen=True)
class ResponseLength(Evaluator):
    """Words of an answer, split at white space; and the modality's own units (tokens) where it reports them.

    Neither direction is better: the figure is there so that nobody takes a change of length for a change of quality.
    """

    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec(
        id="response_length",
        version="1",
        needs="response",
        metrics={"words": Scale(0.0, None, "words", None), "units": Scale(0.0, None, "units", None)},
        primary="words",
    )

    def score(self, sample: Sample) -> Mapping[str, float]:
        """Words, and units where known."""
        found = {"words": float(len(as_text(sample.response).split()))}
        if "length" in sample.detail:
            found["units"] = sample.detail["length"]
        return found
