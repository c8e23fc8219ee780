"""The contract of an evaluator."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from dpoframe import Available, Evaluator, EvaluatorSpec, Refused, Sample
from dpoframe.testing.contract import PartContract, expect, skip

SAMPLES = (
    Sample("a", "What is the capital of France?", "Paris is the capital of France.", meta={"expect": ["Paris"]}),
    Sample("b", "Name a colour.", "Blue", meta={"expect": ["blue"]}),
    Sample("c", "Count to three.", "one two three one two three one two three", finished=False, meta={"expect": ["four"]}),
    Sample("d", "Say nothing.", "", meta={"expect": []}),
)
NUMBERS = {
    "length": 7.0,
    "margin": 0.4,
    "policy_margin": -1.5,
    "chosen_length": 7.0,
    "rejected_length": 9.0,
    "base_logp": -12.5,
    "base_length": 7.0,
}


class EvaluatorContract(PartContract):
    """What every evaluator must hold to. Set `evaluator`, and `samples` where it needs certain answers or facts.

    Class attributes:
        evaluator: the instance to check.
        samples: what to score; the details that its `needs` promise are added to each where they are missing.
    """

    kind: ClassVar[str] = "evaluator"
    evaluator: ClassVar[Evaluator]
    samples: ClassVar[Sequence[Sample]] = SAMPLES

    def part(self) -> Evaluator:
        """The evaluator."""
        return self.evaluator

    def scored(self) -> list[Mapping[str, float] | None]:
        """The scores of all samples; the check is skipped where the evaluator cannot run on this machine."""
        probe = self.evaluator.probe()
        if isinstance(probe, Refused):
            skip(f"the evaluator refuses to run here: {probe.reason} {probe.fix}")
        return [self.evaluator.score(sample) for sample in self._complete()]

    def test_spec_is_whole(self) -> None:
        """The spec has an id, a version, metrics with scales, and a primary metric that is one of them.

        If this fails: set the class attribute `spec = EvaluatorSpec(...)`; its `primary` must be a key of its `metrics`.
        """
        spec: Any = getattr(self.evaluator, "spec", None)
        expect(isinstance(spec, EvaluatorSpec), f"spec is {spec!r}, expected a dpoframe.EvaluatorSpec")
        expect(bool(spec.id and spec.version), "spec.id and spec.version must not be empty")
        expect(spec.needs in ("response", "pair", "base_logp"), f"spec.needs is {spec.needs!r}")
        expect(spec.primary in spec.metrics, f"spec.primary {spec.primary!r} is none of the metrics {sorted(spec.metrics)}")

    def test_probe_answers(self) -> None:
        """`probe` says Available, or Refused with a reason and a fix.

        If this fails: return dpoframe.Available() or dpoframe.Refused(reason, fix); do not raise.
        """
        probe = self.evaluator.probe()
        expect(isinstance(probe, Available | Refused), f"probe returned {probe!r}")
        if isinstance(probe, Refused):
            expect(bool(probe.reason and probe.fix), "a refusal must say why and how to mend it")

    def test_scores_what_the_spec_names(self) -> None:
        """Each score is None or has exactly the metrics of the spec, finite and within their scales.

        If this fails: return every metric that `spec.metrics` names, and None for a sample that cannot be scored, never 0 or NaN.
        """
        for sample, score in zip(self.samples, self.scored(), strict=True):
            if score is None:
                continue
            expect(sorted(score) == sorted(self.evaluator.spec.metrics), f"sample {sample.id!r} has the metrics {sorted(score)}")
            for name, value in score.items():
                scale = self.evaluator.spec.metrics[name]
                low, high = -math.inf if scale.low is None else scale.low, math.inf if scale.high is None else scale.high
                fits = math.isfinite(value) and low <= value <= high
                expect(fits, f"{name} of sample {sample.id!r} is {value}, outside {low} to {high}")

    def test_scores_something(self) -> None:
        """At least one of the contract's samples is scored.

        If this fails: give the contract `samples` that carry what your evaluator reads (facts in `meta`, answers in `response`).
        """
        scored = self.scored()
        expect(any(score is not None for score in scored), f"all of {len(scored)} samples are unscored")

    def test_repeats_itself(self) -> None:
        """Scoring the same samples again gives the same numbers.

        If this fails: draw from `dpoframe.generator(dpoframe.seed_of(sample.id))` where something must be drawn.
        """
        first, second = self.scored(), self.scored()
        expect(first == second, f"scores differ between two calls: {first} and {second}")

    def _complete(self) -> list[Sample]:
        """The samples with the details that every kind of need promises."""
        return [dataclasses.replace(sample, detail={**NUMBERS, **sample.detail}) for sample in self.samples]
