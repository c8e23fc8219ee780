"""Figures over all samples that are no means (an F1, a win rate corrected for length): their intervals by the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from dpoframe.evaluator import Scored
from dpoframe.harness.stats.bootstrap import Array, accelerated, acceleration, picks
from dpoframe.harness.stats.interval import Estimate, Interval, student

Aggregate: TypeAlias = Callable[[Sequence[Scored]], Mapping[str, float]]
_Figures: TypeAlias = Callable[[Sequence[Sequence[Scored]]], Mapping[str, float]]

AGGREGATE_RESAMPLES = 1999
MOST_RESAMPLED = 2000
"""With more clusters than this the interval is the jackknife's: an aggregate of 100,000 samples is not formed 2,000 times."""
GROUPS = 200
FEW_GROUPS = 50
MOST_FAILED = 0.05
"""Where more of the resamples than this have no such figure, its interval is unknown."""


@dataclass(frozen=True)
class PairedAggregate:
    """One figure of two runs on the same samples, and its difference."""

    before: Estimate
    after: Estimate
    difference: Estimate


def aggregate_interval(scores: Sequence[Scored], aggregate: Aggregate) -> dict[str, Interval]:
    """Every figure of `aggregate` with its bootstrap interval over clusters, by name.

    Args:
        scores: All scored samples; those of one cluster are drawn together.
        aggregate: Called on them, and on resamples in which a cluster that is drawn again counts as another one.
    """
    return {name: one.interval() for name, one in aggregate_estimates(scores, aggregate).items()}


def aggregate_estimates(scores: Sequence[Scored], aggregate: Aggregate) -> dict[str, Estimate]:
    """As `aggregate_interval`, at any level."""
    return _estimates(_Clusters((scores,)), lambda runs: aggregate(runs[0]))


def paired_aggregate_difference(before: Sequence[Scored], after: Sequence[Scored], aggregate: Aggregate) -> dict[str, Interval]:
    """`aggregate(after) - aggregate(before)` by figure, with the interval of the paired bootstrap over clusters.

    Args:
        before: Scored samples of one run.
        after: Those of the other, of the same ids in the same order.
        aggregate: As in `aggregate_interval`.
    """
    return {name: one.difference.interval() for name, one in paired_aggregates(before, after, aggregate).items()}


def paired_aggregates(before: Sequence[Scored], after: Sequence[Scored], aggregate: Aggregate) -> dict[str, PairedAggregate]:
    """Both runs' figures and their differences, from the same resamples."""
    if [one.id for one in before] != [one.id for one in after]:
        raise ValueError("paired runs hold scores of the same samples in the same order")

    def figures(runs: Sequence[Sequence[Scored]]) -> dict[str, float]:
        old, new = aggregate(runs[0]), aggregate(runs[1])
        parts = {name: (old[name], new[name], new[name] - old[name]) for name in old if name in new}
        return {f"{part}{name}": value for name, three in parts.items() for part, value in zip("<>=", three, strict=True)}

    found = _estimates(_Clusters((before, after)), figures)
    names = [key[1:] for key in found if key.startswith("=")]
    return {name: PairedAggregate(found[f"<{name}"], found[f">{name}"], found[f"={name}"]) for name in names}


class _Clusters:
    """The samples of one run, or of two that are paired, by cluster, to be drawn with replacement.

    Args:
        runs: Scores of the same ids in the same order; clusters are those of the last run.
    """

    def __init__(self, runs: Sequence[Sequence[Scored]]) -> None:
        places: dict[str, int] = {}
        where = [places.setdefault(one.cluster or one.id, len(places)) for one in runs[-1]]
        self.count = len(places)
        self._copies: dict[tuple[int, int, int], list[Scored]] = {}
        for number, run in enumerate(runs):
            for place, one in zip(where, run, strict=True):
                self._copies.setdefault((number, place, 0), []).append(one)
        self._runs = len(runs)

    def take(self, picked: Sequence[int]) -> list[list[Scored]]:
        """Each run's samples of the clusters `picked`."""
        runs: list[list[Scored]] = [[] for _ in range(self._runs)]
        times: dict[int, int] = {}
        for place in picked:
            time = times[place] = times.get(place, -1) + 1
            for number in range(self._runs):
                runs[number] += self._copy(number, place, time)
        return runs

    def _copy(self, number: int, place: int, time: int) -> list[Scored]:
        """A cluster drawn again is another cluster: an aggregate that groups by it must not merge the two."""
        key = (number, place, time)
        if key not in self._copies:
            first = self._copies[number, place, 0]
            self._copies[key] = [replace(one, id=f"{one.id}~{time}", cluster=f"{one.cluster or one.id}~{time}") for one in first]
        return self._copies[key]


def _estimates(clusters: _Clusters, figures: _Figures) -> dict[str, Estimate]:
    """Every finite figure of the whole, with what the resamples say of it."""
    if clusters.count == 0:
        return {}
    everything = range(clusters.count)
    whole = {name: float(value) for name, value in figures(clusters.take(everything)).items() if math.isfinite(value)}
    if clusters.count < 2:
        return {name: _without_interval(value, clusters.count) for name, value in whole.items()}
    groups = FEW_GROUPS if clusters.count > MOST_RESAMPLED else min(clusters.count, GROUPS)
    others = ([place for place in everything if place % groups != out] for out in range(groups))
    left_out = _table(whole, [_tried(figures, clusters.take(row)) for row in others])
    resamples = AGGREGATE_RESAMPLES if clusters.count <= MOST_RESAMPLED else 0
    rows = (row for piece in picks(clusters.count, resamples) for row in piece.tolist())
    draws = _table(whole, [_tried(figures, clusters.take(row)) for row in rows])
    return {name: _estimate(value, draws[name], left_out[name], clusters.count) for name, value in whole.items()}


def _tried(figures: _Figures, runs: Sequence[Sequence[Scored]]) -> dict[str, float]:
    """The figures of one resample; none where it cannot have them, for want of a class that was not drawn for example."""
    try:
        return dict(figures(runs))
    except (ArithmeticError, LookupError, ValueError):
        return {}


def _table(names: Mapping[str, float], rows: Sequence[Mapping[str, float]]) -> dict[str, Array]:
    return {name: np.asarray([row.get(name, math.nan) for row in rows], dtype=np.float64) for name in names}


def _estimate(value: float, draws: Array, left_out: Array, n: int) -> Estimate:
    """By the bootstrap; by the jackknife where that was not run, or where no resample lies on one side of the figure.

    The second is so for a figure that drawing twice makes smaller, such as a count of different answers.
    """
    parts, known = left_out[np.isfinite(left_out)], draws[np.isfinite(draws)]
    if len(known) < (1 - MOST_FAILED) * len(draws) or len(parts) < (1 - MOST_FAILED) * len(left_out):
        return _without_interval(value, n)
    if len(known) and (known == value).all():
        return student(value, 0.0, n)
    if len(known):
        found = accelerated(value, known, acceleration(parts), float(known.std(ddof=1)), n)
        if math.isfinite(found.bounds(0.25)[0]):
            return found
    # Tukey's jackknife: groups left out in turn differ too little by their number less one.
    stderr = math.sqrt((len(parts) - 1) * float(parts.var()))
    return replace(student(value, stderr, len(parts)), n=n)


def _without_interval(value: float, n: int) -> Estimate:
    return Estimate(value, math.nan, n, lambda tail: (math.nan, math.nan))
