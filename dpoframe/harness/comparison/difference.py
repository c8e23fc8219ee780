"""The difference of one metric between two evaluations of the same samples."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from dpoframe.errors import PluginError
from dpoframe.evaluator import Evaluator, Scored
from dpoframe.harness.phases.limits import OverdueError, Pending, asking, seconds_of
from dpoframe.harness.phases.summing import MOST_SECONDS
from dpoframe.harness.stats import (
    Estimate,
    Interval,
    holm,
    mcnemar,
    mean_interval,
    paired_aggregates,
    paired_estimate,
    smallest_detectable,
)
from dpoframe.harness.storage.folder import Score

Verdict: TypeAlias = Literal["better", "worse", "changed", "no clear difference"]
Scores: TypeAlias = Mapping[str, Score]


@dataclass(frozen=True)
class Difference:
    """One metric of two models on the samples that both could be scored on.

    Attributes:
        metric: The metric's id.
        unit: What it is counted in.
        better: Which way is better; None where neither is.
        before: The base's figure with its interval.
        after: The aligned model's.
        difference: After minus before, with its interval; samples of one prompt go together.
        gained: Yes-or-no metrics: samples that went from 0 to 1; None for others.
        lost: The same from 1 to 0.
        p_value: Of no difference: McNemar's exact test of gained against lost for yes-or-no values, one a prompt; else
            the level at which the interval reaches 0. None where there is no interval.
        detectable: The smallest true difference that this many samples find at 80 % power; nan where nothing varied.
        unscored: Samples that could not be compared.
        p_holm: The p value corrected for the suite's other primary metrics (Holm); None for metrics that are not primary.
        primary: Whether it is its evaluator's first metric.
        aggregate: Whether it is a figure over all samples, not a mean.
        gained_ids: The samples that were gained.
        lost_ids: The samples that were lost.
        estimate: The difference with its interval at every level.
    """

    metric: str
    unit: str
    better: Literal["higher", "lower"] | None
    before: Interval
    after: Interval
    difference: Interval
    gained: int | None
    lost: int | None
    p_value: float | None
    detectable: float
    unscored: int
    p_holm: float | None = None
    primary: bool = False
    aggregate: bool = False
    gained_ids: tuple[str, ...] = ()
    lost_ids: tuple[str, ...] = ()
    estimate: Estimate | None = field(default=None, repr=False, compare=False)

    @property
    def verdict(self) -> Verdict:
        """What the interval of the difference says."""
        if not self.difference.excludes(0.0):
            return "no clear difference"
        if self.better is None:
            return "changed"
        return "better" if (self.difference.value > 0) == (self.better == "higher") else "worse"


def mean_difference(metric: str, scale: Mapping[str, Any], old: Scores, new: Scores, *, primary: bool) -> Difference | None:
    """The difference of a metric that is a mean over samples; None where no sample was scored in both.

    Args:
        metric: Its id.
        scale: What the manifest says of it.
        old: The evaluator's scores of the one run by sample.
        new: Of the other.
        primary: Whether it is its evaluator's first metric.
    """
    name = scale["name"]
    pairs = {
        sample: (first, second)
        for sample in old
        if (first := value(old[sample], name)) is not None and (second := value(new.get(sample), name)) is not None
    }
    if not pairs:
        return None
    clusters = [new[sample].cluster or sample for sample in pairs]
    before, after = [first for first, _ in pairs.values()], [second for _, second in pairs.values()]
    share = (scale["low"], scale["high"]) == (0.0, 1.0)
    estimate = paired_estimate(before, after, clusters, share=share)
    gained = tuple(sample for sample, (first, second) in pairs.items() if first < second)
    lost = tuple(sample for sample, (first, second) in pairs.items() if first > second)
    made = Difference(
        metric=metric,
        unit=scale["unit"],
        better=scale["better"],
        before=mean_interval(before, clusters, share=share),
        after=mean_interval(after, clusters, share=share),
        difference=estimate.interval(),
        gained=None,
        lost=None,
        p_value=_p_value(estimate),
        detectable=_detectable(estimate),
        unscored=len(set(old) | set(new)) - len(pairs),
        primary=primary,
        estimate=estimate,
    )
    if not (share and all(one in (0.0, 1.0) for one in [*before, *after])):
        return made
    if len(set(clusters)) == len(clusters):
        made = replace(made, p_value=mcnemar(len(gained), len(lost)))
    return replace(made, gained=len(gained), lost=len(lost), gained_ids=gained, lost_ids=lost)


def aggregate_differences(evaluator: Evaluator, spec: Mapping[str, Any], old: Scores, new: Scores) -> dict[str, Difference]:
    """The differences of an evaluator's figures over all samples, by metric id; those it cannot form are left out."""
    both = [sample for sample in old if old[sample].values is not None and sample in new and new[sample].values is not None]
    if not both:
        return {}
    with asking(evaluator.aggregate, seconds_of(evaluator.spec)) as ask:
        found = paired_aggregates(_scored(both, old, new), _scored(both, new, new), _Timed(evaluator.spec.limit, ask))
    made = {}
    for metric in spec.get("aggregates", ()):
        scale = spec["metrics"][metric]
        if (one := found.get(scale["name"])) is not None:
            made[metric] = Difference(
                metric=metric,
                unit=scale["unit"],
                better=scale["better"],
                before=one.before.interval(),
                after=one.after.interval(),
                difference=one.difference.interval(),
                gained=None,
                lost=None,
                p_value=_p_value(one.difference),
                detectable=_detectable(one.difference),
                unscored=len(set(old) | set(new)) - len(both),
                primary=metric == spec.get("primary"),
                aggregate=True,
                estimate=one.difference,
            )
    return made


@dataclass
class _Timed:
    """An evaluator's `aggregate` within its limit, and no more than `MOST_SECONDS` for all resamples together."""

    limit: float
    ask: Callable[[Sequence[Scored]], Pending]
    spent: float = 0.0

    def __call__(self, scores: Sequence[Scored]) -> Mapping[str, float]:
        """The figures; ValueError, a resample without figures, where the time for all is up."""
        if self.spent > MOST_SECONDS:
            raise ValueError
        started = time.monotonic()
        try:
            found: Mapping[str, float] = self.ask(scores)()
        except OverdueError:
            raise PluginError(f"aggregate was stopped at its limit of {self.limit:g} s") from None
        self.spent += time.monotonic() - started
        return found


def corrected(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """The same with the p values of the primary metrics corrected for there being several."""
    family = [one for one in differences if one.primary and one.p_value is not None]
    found = dict(zip((one.metric for one in family), holm([one.p_value or 0.0 for one in family]), strict=True))
    return tuple(replace(one, p_holm=found.get(one.metric)) for one in differences)


def value(score: Score | None, name: str) -> float | None:
    """One metric of a score, where it has it."""
    return score.values.get(name) if score is not None and score.values else None


def _scored(samples: Sequence[str], scores: Scores, new: Scores) -> list[Scored]:
    return [Scored(sample, new[sample].cluster or sample, scores[sample].values or {}) for sample in samples]


def _p_value(estimate: Estimate) -> float | None:
    return estimate.p_value() if math.isfinite(estimate.bounds(0.25)[0]) else None


def _detectable(estimate: Estimate) -> float:
    known = estimate.n > 1 and estimate.stderr > 0
    return smallest_detectable(estimate.stderr**2 * estimate.n, estimate.n) if known else math.nan
