"""The phase `aggregate`: figures with intervals from the verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from dpoframe.evaluator import Evaluator, Scored
from dpoframe.harness.phases.limits import to_ask_again
from dpoframe.harness.phases.scoring import as_score, kind_of
from dpoframe.harness.phases.summing import summed
from dpoframe.harness.phases.work import Work
from dpoframe.harness.result import Metric
from dpoframe.harness.stats import UNKNOWN, Interval, mean_interval
from dpoframe.harness.storage.folder import EvalFolder, Score
from dpoframe.harness.storage.keys import evaluator_key
from dpoframe.harness.suites.suite import Suite


@dataclass(frozen=True)
class Figures:
    """All figures of a suite; `complete` says that every sample was asked about and every evaluator scored some."""

    metrics: Mapping[str, Metric]
    complete: bool


def metric_id(evaluator: Evaluator, name: str) -> str:
    """The id of an evaluator's metric in results: the evaluator's own id for its primary metric, else `id/name`."""
    return evaluator.spec.id if name == evaluator.spec.primary else f"{evaluator.spec.id}/{name}"


def aggregate_stored(work: Work) -> Figures:
    """The figures of the suite from the store's verdicts."""
    return _figures(work.suite, lambda one: scores_of(work, one))


def scores_of(work: Work, evaluator: Evaluator) -> Iterator[Score]:
    """The verdicts of one evaluator in the order of the suite."""
    found = work.store.verdicts(kind_of(evaluator), evaluator.spec.needs, evaluator_key(evaluator))
    return (as_score(evaluator, *one) for one in found)


def aggregate(suite: Suite, folder: EvalFolder) -> Figures:
    """The figures of the suite from scores.jsonl, whatever the store holds; writes results.json."""
    scores: dict[str, list[Score]] = {}
    for one in folder.scores():
        scores.setdefault(one.evaluator, []).append(one)
    figures = _figures(suite, lambda one: iter(scores.get(one.spec.id, [])))
    about = folder.document("manifest.json")
    folder.write_document("results.json", results(about, figures, limited=about.get("limit") is not None))
    return figures


def results(about: Mapping[str, object], figures: Figures, *, limited: bool) -> dict[str, object]:
    """The content of results.json, by the contract of the run folder; results of a limited suite are never complete."""
    return {
        "suite": about["suite"],
        "suite_version": about["suite_version"],
        "suite_digest": about["suite_digest"],
        "model": about["model"],
        "digest": about["digest"],
        "metrics": {name: _plain(metric) for name, metric in figures.metrics.items()},
        "complete": figures.complete and not limited,
    }


def _figures(suite: Suite, scores: Callable[[Evaluator], Iterator[Score]]) -> Figures:
    metrics: dict[str, Metric] = {}
    complete = True
    for evaluator in suite.evaluators:
        columns = _Columns.read(evaluator, scores(evaluator))
        metrics |= columns.metrics()
        expected = len(suite.pairs) if kind_of(evaluator) == "pair" else len(suite.prompts) * suite.samples
        complete = complete and columns.count == expected and not columns.again
    return Figures(metrics, complete and not any(metric.interval.n == 0 for metric in metrics.values()))


@dataclass
class _Columns:
    """An evaluator's verdicts by metric: what is known, and of how many samples nothing is."""

    evaluator: Evaluator
    values: dict[str, list[float]]
    clusters: dict[str, list[str]]
    scored: list[Scored]
    count: int = 0
    again: int = 0

    @classmethod
    def read(cls, evaluator: Evaluator, scores: Iterable[Score]) -> _Columns:
        """Takes in the scores one by one."""
        spec = evaluator.spec
        made = cls(evaluator, {name: [] for name in spec.metrics}, {name: [] for name in spec.metrics}, [])
        for one in scores:
            made.count += 1
            made.again += to_ask_again(one)
            for name, value in (one.values or {}).items():
                if name in made.values:
                    made.values[name].append(value)
                    made.clusters[name].append(one.cluster)
            if spec.aggregates and one.values is not None:
                made.scored.append(Scored(one.id, one.cluster, one.values))
        return made

    def metrics(self) -> dict[str, Metric]:
        """Means, then the figures over all samples. A metric that no sample has is left out, unless it is the primary one."""
        found: dict[str, Metric] = {}
        for name, scale in self.evaluator.spec.metrics.items():
            values = self.values[name]
            if values or name == self.evaluator.spec.primary:
                share = (scale.low, scale.high) == (0.0, 1.0)
                interval = mean_interval(values, self.clusters[name], share=share) if values else UNKNOWN
                found |= self._named(name, interval, self.count - len(values))
        if self.evaluator.spec.aggregates:
            sums = summed(self.evaluator, self.scored)
            for name in self.evaluator.spec.aggregates:
                if name in sums.intervals or name in sums.reasons or name == self.evaluator.spec.primary:
                    interval, reason = sums.intervals.get(name, UNKNOWN), sums.reasons.get(name, "")
                    found |= self._named(name, interval, self.count - len(self.scored), reason)
        return found

    def _named(self, name: str, interval: Interval, unscored: int, reason: str = "") -> dict[str, Metric]:
        key = metric_id(self.evaluator, name)
        return {key: Metric(key, interval, unscored, reason)}


def _plain(metric: Metric) -> dict[str, float | int | str | None]:
    one = metric.interval
    figures = {"value": one.value, "ci_low": one.low, "ci_high": one.high, "stderr": one.stderr}
    known = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    why = {"reason": metric.reason} if metric.reason else {}
    return {**known, "n": one.n, "unscored": metric.unscored, **why}
