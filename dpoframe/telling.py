"""The evaluations' part in a run's reporters: figures, answers side by side, and the report page, as a job of their own."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dpoframe.config.recipe import Recipe
from dpoframe.harness import Comparison, SideBySide
from dpoframe.harness.stats import Interval
from dpoframe.reporter import RunInfo
from dpoframe.types import Content, Media, as_text

ROWS = 500
"""Rows of a table of answers. Where there are more, three tables hold as many each: drawn at random, the worst, and flipped."""

Table = tuple[list[str], list[list[Any]]]


def tell(recipe: Recipe, folder: Path, comparisons: Sequence[Comparison], steps: int, page: Path) -> None:
    """Tells the recipe's reporters of finished evaluations. One that fails is a warning.

    Args:
        recipe: Names the reporters.
        folder: The run folder.
        comparisons: Base against aligned, one a suite; the base's figures are told at step 0.
        steps: Optimizer steps done: where the aligned model's figures are told.
        page: The report.
    """
    if not recipe.reporters:
        return
    from dpoframe.train.reporting import Reporters

    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    info = RunInfo(folder, recipe.name, recipe.to_dict(), environment, job="eval")
    live = Reporters.open([(part.name, part.value) for part in recipe.reporters], info)
    for one in comparisons:
        stage = f"eval/{one.suite}"
        live.log({"step": 0, "stage": stage, **{row.metric: row.before.value for row in one.differences}})
        live.log({"step": steps, "stage": stage, **{row.metric: row.after.value for row in one.differences}})
        for name, (columns, rows) in tables(one).items():
            live.table(f"samples/{one.suite}{name}", columns, rows)
    live.summary({name: figures for one in comparisons for name, figures in summary(one)})
    live.artifact("report", f"{recipe.name}-report", page)
    live.finish("finished")


def summary(comparison: Comparison) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each metric's figures of base and aligned, and their difference, under `base/`, `eval/` and `difference/`."""
    for row in comparison.differences:
        for head, found in (("base", row.before), ("eval", row.after), ("difference", row.difference)):
            yield f"{head}/{comparison.suite}/{row.metric}", figures(found)


def figures(found: Interval) -> dict[str, Any]:
    """A figure with its interval and the number of independent prompts it rests on."""
    return {"value": found.value, "ci_low": found.low, "ci_high": found.high, "n": found.n}


def tables(comparison: Comparison) -> dict[str, Table]:
    """Tables of answers by the end of their name: one of all, or three of some where there are more than `ROWS`."""
    answers = comparison.answers
    if len(answers) <= ROWS:
        return {"": samples(answers)}
    drawn = sorted(random.Random(0).sample(range(len(answers)), ROWS))
    evaluator, sign = first_scored(comparison)
    known = [one for one in answers if None not in one.scores.get(evaluator, (None, None))]
    worst = sorted(known, key=lambda one: sign * after(one, evaluator))[:ROWS]
    flipped = sorted((one for one in known if change(one, evaluator)), key=lambda one: -abs(change(one, evaluator)))
    chosen = {"/random": [answers[at] for at in drawn], "/worst": worst, "/flipped": flipped[:ROWS]}
    return {name: samples(some) for name, some in chosen.items() if some}


def first_scored(comparison: Comparison) -> tuple[str, float]:
    """The first evaluator of the suite that scored answers one by one, and 1 where more is better, else -1."""
    scored = {name for one in comparison.answers for name, pair in one.scores.items() if None not in pair}
    name = next((name for name in comparison.after["order"] if name in scored), "")
    spec = comparison.after["evaluators"].get(name, {"metrics": {}})
    better = spec["metrics"].get(spec.get("primary", name), {}).get("better")
    return name, -1.0 if better == "lower" else 1.0


def after(one: SideBySide, evaluator: str) -> float:
    """An evaluator's score of the aligned model's answer."""
    return float(one.scores[evaluator][1] or 0.0)


def change(one: SideBySide, evaluator: str) -> float:
    """By how much an evaluator's score went up."""
    return after(one, evaluator) - float(one.scores[evaluator][0] or 0.0)


def samples(answers: Sequence[SideBySide]) -> Table:
    """Columns and rows of a table of samples: prompt, both answers, and each evaluator's score of both."""
    metrics = sorted({name for one in answers for name in one.scores})
    columns = ["prompt", "base", "aligned", *(f"{name} {side}" for name in metrics for side in ("base", "aligned")), "id"]
    rows = [
        [
            *map(shown, (one.prompt, one.before.response, one.after.response)),
            *(score for name in metrics for score in one.scores.get(name, (None, None))),
            one.id,
        ]
        for one in answers
    ]
    return columns, rows


def shown(content: Content) -> Any:
    """A prompt or answer in a table: text, or a picture as it is, which a reporter may show."""
    return content if isinstance(content, Media) else as_text(content)
