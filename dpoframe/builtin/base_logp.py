"""How likely the base model finds the answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dpoframe.evaluator import Evaluator, EvaluatorSpec, Scale
from dpoframe.types import Sample


@dataclass(frozen=True)
class BaseLogp(Evaluator):
    """Log-probability per token of the answers under the base model, averaged over answers.

    The end of an answer counts as a token where the model ended it itself, not where the limit cut it off.

    A model that has collapsed writes what its base finds very unlikely, so a steep fall warns of damage. It is no
    measure of quality: text that repeats itself scores high, and any new behaviour lowers it somewhat.
    """

    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec(
        id="base_logp",
        version="2",
        needs="base_logp",
        metrics={"per_token": Scale(None, 0.0, "nats per token", None)},
        primary="per_token",
    )

    def score(self, sample: Sample) -> Mapping[str, float] | None:
        """Mean log-probability of one answer's tokens; None for an answer without tokens."""
        length = sample.detail["base_length"]
        return {"per_token": sample.detail["base_logp"] / length} if length > 0 else None
