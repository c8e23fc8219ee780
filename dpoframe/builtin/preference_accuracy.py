"""How often the model prefers the preferred response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dpoframe.evaluator import Evaluator, EvaluatorSpec, Scale
from dpoframe.types import Sample


@dataclass(frozen=True)
class PreferenceAccuracy(Evaluator):
    """Share of held-out pairs whose chosen response gained more log-probability over the base than the rejected one.

    A pair counts 1 where log pi(y+)/ref(y+) > log pi(y-)/ref(y-), 0 where it is smaller, 0.5 where they are equal;
    the share of equal pairs is shown beside it. The base against itself is 0.5 with a tie rate of 1 by definition.

    Attributes:
        tolerance: Margins at most this far from 0, in nats, are ties.
    """

    tolerance: float = 1e-4
    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec(
        id="preference_accuracy",
        version="1",
        needs="pair",
        metrics={"accuracy": Scale(0.0, 1.0, "share"), "tie_rate": Scale(0.0, 1.0, "share", None)},
        primary="accuracy",
    )

    def score(self, sample: Sample) -> Mapping[str, float]:
        """1, 0 or 0.5, and whether the pair is a tie."""
        margin = sample.detail["margin"]
        if abs(margin) <= self.tolerance:
            return {"accuracy": 0.5, "tie_rate": 1.0}
        return {"accuracy": float(margin > 0), "tie_rate": 0.0}
