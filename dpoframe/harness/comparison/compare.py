"""Two models on the same suite, compared sample by sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpoframe.config.secrets import printed
from dpoframe.errors import DpoframeError
from dpoframe.evaluator import Evaluator
from dpoframe.harness.comparison.comparable import MANIFEST_KEYS, left_out, remarks, require_comparable, required, unfinished
from dpoframe.harness.comparison.difference import Difference, Verdict, aggregate_differences, corrected, mean_difference, value
from dpoframe.harness.comparison.verdicts import verdicts_of
from dpoframe.harness.phases.limits import stable
from dpoframe.harness.storage.folder import EvalFolder, Row, Score
from dpoframe.plugins import named_by

__all__ = ["Comparison", "Difference", "SideBySide", "Verdict", "compare"]


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
    """All metrics and all answers of one suite, base against aligned.

    Attributes:
        suite: The suite's name.
        before: The base's manifest.
        after: The aligned model's.
        differences: One a metric that both have, in the order of the suite.
        answers: Each prompt with both answers.
        figures: The aligned model's own figures, as its results.json has them, by metric.
        figures_before: The base's.
        left_out: By metric, why figures that both have no difference: the base, or the answers, that each was held against.
        notes: What a reader should know: figures that are left out and why, other versions, other bases.
        unfinished: Which side is no finished evaluation, and why; empty where both are.
    """

    suite: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    differences: tuple[Difference, ...]
    answers: tuple[SideBySide, ...]
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    figures_before: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unfinished: str = ""

    def __getitem__(self, metric: str) -> Difference:
        return next(one for one in self.differences if one.metric == metric)

    @property
    def name(self) -> str:
        """The suite's name, with the limit where only its first prompts were asked: no look passes for the whole."""
        limit = self.after.get("limit")
        return self.suite if limit is None else f"{self.suite}-limit-{limit}"

    def scale(self, metric: str) -> Mapping[str, Any] | None:
        """What the manifest says of a metric: name, bounds, unit, which way is better; None where it has no such metric."""
        specs = self.after["evaluators"].values()
        return next((spec["metrics"][metric] for spec in specs if metric in spec["metrics"]), None)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The ids of all metrics of the suite."""
        return tuple(metric for _, spec in _in_order(self.after) for metric in spec["metrics"])


def compare(before: Path, after: Path, evaluators: Sequence[Evaluator] = ()) -> Comparison:
    """Compares the evaluations in two folders.

    Args:
        before: The folder of one evaluation.
        after: That of another model on the same suite.
        evaluators: The suite's evaluators, which form the figures that are no means; those of the suite that the
            manifest names where empty. Where they cannot be had such differences are left out, with a note.

    Raises:
        DataError: One has no results or lacks verdicts, or they are of different suites, versions, prompts, settings or
            evaluators.
    """
    old, new = EvalFolder(before), EvalFolder(after)
    about, about_new = (required(one, "manifest.json", *MANIFEST_KEYS) for one in (old, new))
    results, results_new = (required(one, "results.json", "metrics") for one in (old, new))
    require_comparable(before, after, about, about_new)
    scores, scores_new = verdicts_of(old, about), verdicts_of(new, about_new)
    notes, left = list(remarks(about, about_new)), left_out(about, about_new)
    notes += (f"{metric} has no difference: {why}" for metric, why in _told(about_new, left))
    forming = _Forming.of(about_new, evaluators, notes, left)
    differences = [one for name, spec in _in_order(about_new) for one in forming.of_evaluator(name, spec, scores, scores_new)]
    late = ((before, unfinished(results, about, scores)), (after, unfinished(results_new, about_new, scores_new)))
    return Comparison(
        suite=about_new["suite"],
        before=about,
        after=about_new,
        differences=corrected(differences),
        answers=tuple(_side_by_side(old, new, _read_first(about_new), scores, scores_new)),
        figures=results_new["metrics"],
        figures_before=results["metrics"],
        left_out=left,
        notes=tuple(dict.fromkeys(notes)),
        unfinished="; ".join(f"{place}: {why}" for place, why in late if why),
    )


@dataclass(frozen=True)
class _Forming:
    """What forms differences: the evaluators that aggregate, by id, and the notes on what could not be formed."""

    evaluators: Mapping[str, Evaluator]
    notes: list[str]
    left_out: Mapping[str, str]

    @classmethod
    def of(cls, about: Mapping[str, Any], given: Sequence[Evaluator], notes: list[str], left_out: Mapping[str, str]) -> _Forming:
        """With the evaluators that are needed, loaded where they are not given."""
        needed = {
            name: spec for name, spec in about["evaluators"].items() if set(spec.get("aggregates") or ()).difference(left_out)
        }
        if needed and not given:
            given = _loaded(str(about.get("suite_source") or about["suite"]), about.get("suite_changes") or (), notes)
        known = {one.spec.id: one for one in given if one.spec.id in needed and _is(one, needed[one.spec.id])}
        left = [metric for name, spec in needed.items() if name not in known for metric in spec["aggregates"]]
        if left:
            notes.append(
                f"The difference of {', '.join(left)} is left out: it takes the evaluator as it was, which the suite "
                f"{about.get('suite_source') or about['suite']} does not give here. Compare where the suite can be loaded."
            )
        return cls(known, notes, left_out)

    def of_evaluator(
        self, name: str, spec: Mapping[str, Any], scores: Mapping[str, Mapping[str, Score]], new: Mapping[str, Mapping[str, Score]]
    ) -> Iterator[Difference]:
        """One evaluator's differences in the order of its metrics."""
        if not set(spec["metrics"]).difference(self.left_out):
            return
        mine, other = scores.get(name, {}), new.get(name, {})
        aggregates = self._aggregates(name, spec, mine, other)
        for metric, scale in spec["metrics"].items():
            if metric in spec.get("aggregates", ()):
                found = aggregates.get(metric)
            else:
                found = mean_difference(metric, scale, mine, other, primary=metric == spec.get("primary", name))
                if found is None and metric == spec.get("primary", name):
                    self.notes.append(f"{metric} has no difference: no sample was scored in both evaluations.")
            if found is not None:
                yield found

    def _aggregates(
        self, name: str, spec: Mapping[str, Any], mine: Mapping[str, Score], other: Mapping[str, Score]
    ) -> Mapping[str, Difference]:
        if name not in self.evaluators:
            return {}
        try:
            found = aggregate_differences(self.evaluators[name], spec, mine, other)
        except (Exception, SystemExit) as error:  # whatever a plugin's code raises
            self.notes.append(f"{name} could not aggregate: {type(error).__name__}: {stable(error)}")
            return {}
        if lacking := [metric for metric in spec["aggregates"] if metric not in found]:
            self.notes.append(f"{', '.join(lacking)} has no difference: it could not be formed on the samples scored in both.")
        return found


def _loaded(source: str, changes: Sequence[str], notes: list[str]) -> Sequence[Evaluator]:
    """The evaluators of the suite, as they were set; its prompts and pairs may be gone by now."""
    from dpoframe.harness.suites.suite_file import read_evaluators

    try:
        with named_by("The evaluation's suite"):
            return read_evaluators(source, [str(change) for change in changes])
    except (DpoframeError, OSError) as error:
        notes.append(f"The suite {source} could not be loaded: {str(error).splitlines()[0]}")
        return ()


def _is(evaluator: Evaluator, spec: Mapping[str, Any]) -> bool:
    """Whether an evaluator is the one the manifest describes."""
    assets = sorted((one.name, one.digest) for one in evaluator.spec.assets)
    known = [(one["name"], one["digest"]) for one in spec["assets"]] if "assets" in spec else assets
    alike = evaluator.spec.version == spec["version"] and sorted(known) == assets
    return alike and spec.get("arguments") in (None, printed(evaluator))


def _in_order(about: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Evaluators in the order of the suite, which the manifest keeps beside the sorted mapping."""
    return [(name, about["evaluators"][name]) for name in about["order"]]


def _told(about: Mapping[str, Any], left: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The metrics that a reader is told of as left out: the primary one of each evaluator, which stands for the others."""
    for name, spec in _in_order(about):
        primary = spec.get("primary", name)
        if primary in left:
            yield primary, left[primary]


def _read_first(about: Mapping[str, Any]) -> dict[str, str]:
    """The name of the metric that each evaluator gives a sample first: its primary one, or the first that is a mean."""
    found = {}
    for name, spec in _in_order(about):
        means = [metric for metric in spec["metrics"] if metric not in spec.get("aggregates", ())]
        if means:
            primary = spec.get("primary", name)
            found[name] = spec["metrics"][primary if primary in means else means[0]]["name"]
    return found


def _side_by_side(
    old: EvalFolder,
    new: EvalFolder,
    first: Mapping[str, str],
    scores: Mapping[str, Mapping[str, Score]],
    scores_new: Mapping[str, Mapping[str, Score]],
) -> Iterator[SideBySide]:
    answers = {row.id: row for row in new.samples()}
    for row in old.samples():
        if row.id in answers:
            yield SideBySide(row.id, row.prompt, row, answers[row.id], _verdicts(row.id, first, scores, scores_new))


def _verdicts(
    sample: str, first: Mapping[str, str], old: Mapping[str, Mapping[str, Score]], new: Mapping[str, Mapping[str, Score]]
) -> dict[str, tuple[float | None, float | None]]:
    """Each evaluator's first metric of a sample that either run was scored on, before and after."""
    return {
        evaluator: (value(old.get(evaluator, {}).get(sample), name), value(new.get(evaluator, {}).get(sample), name))
        for evaluator, name in first.items()
        if sample in old.get(evaluator, {}) or sample in new.get(evaluator, {})
    }
