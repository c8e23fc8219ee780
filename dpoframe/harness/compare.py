"""Two models on the same suite, compared sample by sample."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from dpoframe.errors import DataError
from dpoframe.harness.folder import EvalFolder, Row, Score
from dpoframe.harness.stats import Interval, mcnemar, mean_interval, paired_difference, smallest_detectable

Verdict: TypeAlias = Literal["better", "worse", "changed", "no clear difference"]


@dataclass(frozen=True)
class Difference:
    """One metric of two models on the samples that both could be scored on.

    Attributes:
        metric: The metric's id.
        unit: What it is counted in.
        better: Which way is better; None where neither is.
        before: The base's figure with its interval.
        after: The aligned model's.
        difference: Mean of after minus before over prompts, with the interval of that mean.
        gained: Yes-or-no metrics: samples that went from 0 to 1; None for others.
        lost: The same from 1 to 0.
        p_value: Exact McNemar p value of gained against lost; None where it has no meaning.
        detectable: The smallest true difference that this many samples find at 80 % power.
        unscored: Samples that could not be compared.
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

    @property
    def verdict(self) -> Verdict:
        """What the interval of the difference says."""
        if not self.difference.excludes(0.0):
            return "no clear difference"
        if self.better is None:
            return "changed"
        return "better" if (self.difference.value > 0) == (self.better == "higher") else "worse"


@dataclass(frozen=True)
class SideBySide:
    """One prompt with both answers, and what each evaluator said of each."""

    id: str
    prompt: Any
    before: Row
    after: Row
    scores: Mapping[str, tuple[float | None, float | None]]


@dataclass(frozen=True)
class Comparison:
    """All metrics and all answers of one suite, base against aligned."""

    suite: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    differences: tuple[Difference, ...]
    answers: tuple[SideBySide, ...]

    def __getitem__(self, metric: str) -> Difference:
        return next(one for one in self.differences if one.metric == metric)


def compare(before: Path, after: Path) -> Comparison:
    """Compares the evaluations in two folders.

    Raises:
        DataError: One is unfinished, or they are of different suites, prompts or settings.
    """
    old, new = EvalFolder(before), EvalFolder(after)
    about, about_new = old.document("manifest.json"), new.document("manifest.json")
    if about["suite_digest"] != about_new["suite_digest"]:
        raise DataError(
            f"{before} and {after} do not compare: suite {about['suite']} version {about['suite_version']} against "
            f"{about_new['suite']} version {about_new['suite_version']}, or other prompts, settings or evaluators. "
            "Evaluate both models with the same suite."
        )
    scores, scores_new = _by_evaluator(old.scores()), _by_evaluator(new.scores())
    differences = [
        _difference(metric, scale, spec_id, scores.get(spec_id, {}), scores_new.get(spec_id, {}))
        for spec_id, spec in _in_order(about)
        for metric, scale in spec["metrics"].items()
    ]
    return Comparison(
        about["suite"],
        about,
        about_new,
        tuple(one for one in differences if one is not None),
        _side_by_side(old, new, {name: spec["metrics"][name]["name"] for name, spec in _in_order(about)}, scores, scores_new),
    )


def _in_order(about: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Evaluators in the order of the suite, which the manifest keeps beside the sorted mapping."""
    return [(name, about["evaluators"][name]) for name in about["order"]]


def _by_evaluator(scores: list[Score]) -> dict[str, dict[str, Score]]:
    found: dict[str, dict[str, Score]] = {}
    for one in scores:
        found.setdefault(one.evaluator, {})[one.id] = one
    return found


def _difference(
    metric: str, scale: Mapping[str, Any], spec_id: str, old: Mapping[str, Score], new: Mapping[str, Score]
) -> Difference | None:
    name = scale["name"]
    pairs = {
        sample: (first, second)
        for sample in old
        if (first := _value(old[sample], name)) is not None and (second := _value(new.get(sample), name)) is not None
    }
    if not pairs:
        return None
    clusters = [new[sample].cluster for sample in pairs]
    before, after = [first for first, _ in pairs.values()], [second for _, second in pairs.values()]
    share = (scale["low"], scale["high"]) == (0.0, 1.0)
    binary = share and all(value in (0.0, 1.0) for value in [*before, *after])
    gained = sum(1 for first, second in pairs.values() if first < second) if binary else None
    lost = sum(1 for first, second in pairs.values() if first > second) if binary else None
    lone = len(set(clusters)) == len(clusters)
    difference = paired_difference(before, after, clusters, share=share)
    return Difference(
        metric=metric,
        unit=scale["unit"],
        better=scale["better"],
        before=mean_interval(before, clusters, share=share),
        after=mean_interval(after, clusters, share=share),
        difference=difference,
        gained=gained,
        lost=lost,
        p_value=mcnemar(gained, lost) if gained is not None and lost is not None and lone else None,
        detectable=smallest_detectable(difference.stderr**2 * difference.n, difference.n) if difference.n > 1 else math.nan,
        unscored=len(set(old) | set(new)) - len(pairs),
    )


def _value(score: Score | None, name: str) -> float | None:
    return score.values.get(name) if score is not None and score.values else None


def _side_by_side(
    old: EvalFolder,
    new: EvalFolder,
    primary: Mapping[str, str],
    scores: Mapping[str, Mapping[str, Score]],
    scores_new: Mapping[str, Mapping[str, Score]],
) -> tuple[SideBySide, ...]:
    answers = {row.id: row for row in new.samples()}
    return tuple(
        SideBySide(row.id, row.prompt, row, answers[row.id], _verdicts(row.id, primary, scores, scores_new))
        for row in old.samples()
        if row.id in answers
    )


def _verdicts(
    sample: str, primary: Mapping[str, str], old: Mapping[str, Mapping[str, Score]], new: Mapping[str, Mapping[str, Score]]
) -> dict[str, tuple[float | None, float | None]]:
    """Primary metric of each evaluator that scored the sample, before and after."""
    return {
        evaluator: (_value(scores[sample], primary[evaluator]), _value(new.get(evaluator, {}).get(sample), primary[evaluator]))
        for evaluator, scores in old.items()
        if sample in scores
    }
