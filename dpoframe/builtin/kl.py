"""How far the model has moved away from its base, on its own answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dpoframe.evaluator import Evaluator, EvaluatorSpec, Scale
from dpoframe.types import Sample


@dataclass(frozen=True)
class Kl(Evaluator):
    """KL(pi || ref) in nats, estimated from answers that the model wrote: the mean of d = log pi(y|x) - log ref(y|x).

    Two estimators of the same quantity (John Schulman, "Approximating KL Divergence", 2020,
    http://joschu.net/blog/kl-approx.html), each for a whole answer and for each of its tokens:

    - `k1` is d. It is unbiased, and of one answer, or of few, it may well be negative.
    - `k3` is exp(-d) - 1 + d. It is unbiased too and never negative, and steadier where d is small; far from the base a few
      answers carry its whole mean. An answer whose k3 is no float is left out of it.

    Both are unbiased only where the answers are drawn from the model's own distribution: temperature 1, no top-k or top-p
    cut. Greedy answers, which are those that it finds likeliest, bias them, and an answer that the limit cut off counts up
    to the cut. With such answers read the figures as a distance, not as the divergence.
    """

    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec(
        id="kl",
        version="1",
        needs="logratio",
        metrics={
            "k1": Scale(None, None, "nats", None),
            "k1_per_token": Scale(None, None, "nats per token", None),
            "k3": Scale(0.0, None, "nats", None),
            "k3_per_token": Scale(0.0, None, "nats per token", None),
        },
        primary="k1",
    )

    def score(self, sample: Sample) -> Mapping[str, float] | None:
        """Both estimators of one answer; None for an answer without tokens."""
        length = sample.detail["base_length"]
        if length <= 0:
            return None
        ratio = sample.detail["policy_logp"] - sample.detail["base_logp"]
        found = {"k1": ratio, "k1_per_token": ratio / length}
        try:
            # expm1 keeps the digits that exp(-d) - 1 loses where d is small.
            k3 = max(0.0, math.expm1(-ratio) + ratio)
        except OverflowError:
            return found
        return {**found, "k3": k3, "k3_per_token": k3 / length}
