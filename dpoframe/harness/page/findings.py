"""What a suite says besides its figures: failures, controls, and where every number came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dpoframe.harness.page.reading import Evaluation, Part
from dpoframe.harness.page.words import count
from dpoframe.harness.phases.limits import NO_RIVAL
from dpoframe.harness.stats import Interval
from dpoframe.harness.storage.folder import NOT_APPLICABLE

REASONS = 40
"""Rows of the list of failures; samples named in a row are at most `NAMED`."""
NAMED = 5

SILENT = (NOT_APPLICABLE, NO_RIVAL)
"""Reasons that are no failure: there was nothing to score."""

CONTROLS = {
    "null": "How often one constant answer wins. It should lose nearly always: a judge that lets it win can be fooled.",
    "self": "The answer against itself: how often the first place wins. A sound judge gives 0.50.",
    "longer": "How often the longer of two answers wins. Far above 0.50 the judge may be rewarding length.",
    "by_length": "The win rate, had the longer answer always won. Where the win rate is no higher, length may explain it.",
    "consistent": "How often both orders name one answer. The rest are ties of the judge's own making.",
    "first": "How often the first place wins over both orders. 0.50 where the place does not matter.",
}
"""Figures that test a judge rather than a model, by the name of the metric, and how each reads."""

TELLING = {"null", "self"}
"""Controls that an evaluator must have one of for its other metrics to be taken for controls, whatever their names."""


@dataclass(frozen=True)
class Failure:
    """Samples that one evaluator failed on for one reason."""

    model: str
    evaluator: str
    reason: str
    total: int
    samples: tuple[str, ...]


@dataclass(frozen=True)
class Control:
    """A control's figure for each model, with what it means."""

    metric: str
    meaning: str
    unit: str
    figures: tuple[tuple[str, Interval], ...]


@dataclass(frozen=True)
class Asset:
    """A file or model that an evaluator relied on."""

    evaluator: str
    name: str
    licence: str
    digest: str


def failures(part: Part) -> list[Failure]:
    """What could not be scored, by model, evaluator and reason; not what an evaluator has nothing to say of."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for one in part.evaluations:
        for score in one.folder.scores():
            if score.values is None and score.reason not in SILENT:
                found.setdefault((one.label, score.evaluator, score.reason), []).append(score.id)
    return [Failure(*key, len(samples), tuple(samples[:NAMED])) for key, samples in found.items()]


def unknown_figures(part: Part) -> list[tuple[str, str, str]]:
    """(model, metric, reason) of the figures that went wrong as a whole: an `aggregate` that failed or was stopped."""
    return [
        (one.label, metric, str(figure["reason"]))
        for one in part.evaluations
        for metric, figure in one.metrics.items()
        if figure.get("reason")
    ]


def not_applicable(part: Part) -> list[tuple[str, int]]:
    """(evaluator, samples) that an evaluator had nothing to say of, on the last model."""
    found: dict[str, int] = {}
    for score in part.last.folder.scores():
        if score.values is None and score.reason in SILENT:
            found[score.evaluator] = found.get(score.evaluator, 0) + 1
    return list(found.items())


def controls(part: Part) -> list[Control]:
    """The controls that the suite's evaluators name, with every model's figure."""
    found = []
    for metric, scale in part.last.scales.items():
        if meaning := meaning_of(part.last, metric):
            figures = tuple((one.label, one.figure(metric)) for one in part.evaluations if metric in one.metrics)
            found.append(Control(metric, meaning, str(scale.get("unit", "")), figures))
    return found


def meaning_of(found: Evaluation, metric: str) -> str:
    """How a control reads; empty for a metric that is none."""
    own = found.about["evaluators"].get(found.evaluator(metric), {}).get("metrics", {}).values()
    if not TELLING & {scale["name"] for scale in own}:
        return ""
    return CONTROLS.get(str(found.scales[metric]["name"]), "")


def assets(part: Part) -> list[Asset]:
    """Files and models that evaluators relied on, with licence and digest."""
    return [
        Asset(name, str(one.get("name", "")), str(one.get("licence", "")), str(one.get("digest", "")))
        for name in part.last.about["order"]
        for one in part.last.about["evaluators"][name].get("assets", ())
        if isinstance(one, Mapping)
    ]


def provenance(part: Part) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Rows of the table of a suite: what it is, and each value with its digest where it has one."""
    about = part.last.about
    yield "suite", [(f"{part.suite} version {about.get('suite_version', '?')}", str(about.get("suite_digest", "")))]
    asked = f"{count(about.get('prompts', 0), 'prompt')} with {count(about.get('samples', 1), 'answer')} each"
    yield "size", [(f"{asked}, {count(about.get('pairs', 0), 'held-out pair')}, seed {about.get('seed', '?')}", "")]
    yield "generation", [(settings(about.get("generation", {})), "")]
    if about.get("backend"):
        yield "backend", [(settings(about["backend"]), "")]
    for one in part.evaluations:
        yield one.label, [(str(one.about.get("model", "?")), str(one.about.get("model_digest", "")))]
    shown = {one.about.get("model_digest") for one in part.evaluations}
    if (base := about.get("base")) and about.get("base_digest") not in shown:
        yield "measured against", [(str(base), str(about.get("base_digest", "")))]
    if about.get("rivals"):
        yield "win rates against", [("the answers of the evaluation", str(about["rivals"]))]
    for versions, labels in distinct_versions(part).items():
        yield f"versions{'' if len(labels) == len(part.evaluations) else ' of ' + ', '.join(labels)}", [(versions, "")]


def distinct_versions(part: Part) -> dict[str, list[str]]:
    """Library versions, and the models that were evaluated with them."""
    found: dict[str, list[str]] = {}
    for one in part.evaluations:
        found.setdefault(settings(one.about.get("versions", {}), " ", ", "), []).append(one.label)
    return found


def settings(values: Any, equals: str = "=", between: str = " ") -> str:
    """A mapping in a line."""
    plain = values if isinstance(values, Mapping) else {}
    return between.join(f"{name}{equals}{value}" for name, value in plain.items()) or "as the model's own settings say"
