"""How often the model ends its answer by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dpoframe.evaluator import Evaluator, EvaluatorSpec, Scale
from dpoframe.types import Sample


@dataclass(frozen=True)
class Finished(Evaluator):
    """Share of answers that the model ended itself, before the suite's limit on new units cut them off."""

    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec(
        id="finished", version="1", needs="response", metrics={"rate": Scale(0.0, 1.0, "share")}, primary="rate"
    )

    def score(self, sample: Sample) -> Mapping[str, float]:
        """1 where the answer is finished, else 0."""
        return {"rate": float(sample.finished)}
