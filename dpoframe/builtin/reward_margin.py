"""How far the model separates the preferred response from the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dpoframe.evaluator import Evaluator, EvaluatorSpec, Scale
from dpoframe.types import Sample


@dataclass(frozen=True)
class RewardMargin(Evaluator):
    """Mean of beta times [log pi(y+)/ref(y+) - log pi(y-)/ref(y-)] over held-out pairs: DPO's implicit reward margin.

    Attributes:
        beta: The reward's scale (Rafailov et al. 2023, equation 5); 1 leaves the margin in nats.
    """

    beta: float = 1.0
    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec(
        id="reward_margin", version="1", needs="pair", metrics={"margin": Scale(unit="nats")}, primary="margin"
    )

    def score(self, sample: Sample) -> Mapping[str, float]:
        """The margin of one pair, in nats times beta."""
        return {"margin": self.beta * sample.detail["margin"]}
