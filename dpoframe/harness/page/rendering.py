"""From what was read to the page's HTML. Whatever a model or a file says is escaped by the template."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from dpoframe.harness.comparison.compare import Comparison, Difference
from dpoframe.harness.page import answers, board, charts, findings, words
from dpoframe.harness.page.pieces import Budget, Pieces
from dpoframe.harness.page.reading import Material, Part

if TYPE_CHECKING:
    from dpoframe.harness.gates.judging import Judgement

CURVES = {
    "Loss": ("loss",),
    "Reward margin": ("rewards/margins",),
    "Pairs preferred rightly": ("rewards/accuracies",),
    "Log-probability": ("logps/chosen", "logps/rejected"),
    "Reward": ("rewards/chosen", "rewards/rejected"),
    "Gradient norm": ("grad_norm",),
}
"""Training curves: title and the columns of metrics.jsonl."""

HELD_OUT = {"Loss": "loss", "Reward margin": "rewards/margins", "Pairs preferred rightly": "rewards/accuracies"}
"""Curves on which the validation's values stand beside the training's."""

EVALUATED = 6
"""Curves drawn of suites that ran during the training."""

DOCUMENT = 40_000
"""Characters of a recipe, an environment or a manifest that the page holds."""


def render(material: Material, judgement: Judgement | None = None) -> str:
    """The page.

    Args:
        material: What was read.
        judgement: A gate's, where one judged.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dpoframe.harness.page", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=words.printable,
    )
    environment.filters.update(number=charts.number, signed=charts.signed, pretty=pretty, cut=cut)
    environment.filters.update(spoken=words.spoken, first_up=words.first_up)
    environment.globals.update(forest=forest, bars=bars, bars_of=charts.interval_bars, findings=findings)
    environment.globals.update(
        watches=words.watches, healthy=words.is_health, count=words.count, leads=words.leads, cautions=words.cautions
    )
    environment.globals.update(
        evidence=words.evidence,
        leading=board.leading,
        ranked=board.ranked,
        difference_of=board.difference_of,
        bounded=bounded,
        compared=board.compared,
    )
    environment.globals.update(even=words.even, even_verdict=words.even_verdict, unit_in=partial(unit_in, material))
    budget = Budget()
    return environment.get_template("report.html").render(
        material=material,
        title=words.title(material),
        facts=words.facts(material),
        runs=[(told, curves(told.rows)) for told in material.documents],
        answers=[answers.answers(part, lambda one: Pieces(one.path, budget)) for part in material.parts],
        judgement=judgement,
    )


def forest(comparisons: Sequence[Comparison], one: Difference) -> Markup:
    """A row of the forest plot. Of one comparison all shares are drawn on one axis; of several, each metric is.

    The axis fits the evaluators' first metrics: a further one (`evaluator/name`) that goes beyond is drawn as an arrow.
    """
    if len(comparisons) > 1:
        alike = [other for comparison in comparisons for other in comparison.differences if other.metric == one.metric]
    else:
        alike = [other for other in comparisons[0].differences if other.unit == "share"] if one.unit == "share" else [one]
    return charts.forest_row(one, charts.reach([other for other in alike if words.is_first(other)] or [one]))


def bars(part: Part, metric: str) -> Markup:
    """The intervals of all models of a suite on one metric."""
    found = [one for one in part.evaluations if metric in one.metrics]
    return charts.interval_bars([one.figure(metric) for one in found], [one.label for one in found], part.last.scales[metric])


def unit_in(material: Material, suite: str, metric: str) -> str:
    """The unit of a suite's metric."""
    return next((str(part.last.scales.get(metric, {}).get("unit", "")) for part in material.parts if part.suite == suite), "")


def bounded(scale: Mapping[str, Any]) -> bool:
    """Whether a scale has two ends, so that one interval alone has a place on it."""
    return scale.get("low") is not None and scale.get("high") is not None


def curves(rows: Sequence[Mapping[str, Any]]) -> Sequence[tuple[str, Sequence[str], Markup]]:
    """(title, names of the lines, drawing) of each curve that has at least two values."""
    train = [row for row in rows if row.get("stage", "train") == "train"]
    held_out = [row for row in rows if row.get("stage") == "validation"]
    drawn: list[tuple[str, Sequence[str], Markup]] = []
    for title, names in CURVES.items():
        lines = {name.rpartition("/")[2]: series(train, name) for name in names}
        if title in HELD_OUT and len(validated := series(held_out, HELD_OUT[title])) > 1:
            lines = {"training": next(iter(lines.values())), "held out": validated}
        if all(len(line) > 1 for line in lines.values()):
            drawn.append((title, list(lines), charts.curve(lines)))
    return [*drawn, *evaluated(rows)]


def evaluated(rows: Sequence[Mapping[str, Any]]) -> Sequence[tuple[str, Sequence[str], Markup]]:
    """Curves of the suites that ran during the training: of each the first metrics (`suite/metric`) that have two values."""
    own = [row for row in rows if row.get("stage") == "evaluation"]
    names = [name for name in dict.fromkeys(name for row in own for name in row) if name.count("/") == 1]
    lines = ((name, series(own, name)) for name in names)
    drawn = [(name, line) for name, line in lines if len(line) > 1][:EVALUATED]
    return [(words.spoken(name.replace("/", ": ", 1)), [name], charts.curve({name: line})) for name, line in drawn]


def series(rows: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """(step, value) where a column holds a finite number."""
    return [(float(row["step"]), float(row[name])) for row in rows if finite(row.get(name))]


def finite(value: Any) -> bool:
    """Whether a value can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def pretty(value: Any) -> str:
    """JSON for reading."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=str)


def cut(text: str) -> str:
    """A document's beginning, and a word on what is left out."""
    return text if len(text) <= DOCUMENT else f"{text[:DOCUMENT]}\n[{len(text) - DOCUMENT:,} more characters in the file]"
