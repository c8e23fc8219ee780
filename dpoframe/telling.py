"""The evaluations' part in a run's reporters: figures, answers side by side, and the report page, as a job of their own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpoframe.config.recipe import Recipe
from dpoframe.harness import Comparison, SideBySide
from dpoframe.reporter import RunInfo
from dpoframe.types import as_text


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
        live.table(f"samples/{one.suite}", *samples(one.answers))
    differences = [(f"difference/{one.suite}/{row.metric}", row.difference) for one in comparisons for row in one.differences]
    live.summary({name: {"value": found.value, "ci_low": found.low, "ci_high": found.high} for name, found in differences})
    live.artifact("report", f"{recipe.name}-report", page)
    live.finish("finished")


def samples(answers: Sequence[SideBySide]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the table of samples: prompt, both answers, and each evaluator's score of both."""
    metrics = sorted({name for one in answers for name in one.scores})
    columns = ["prompt", "base", "aligned", *(f"{name} {side}" for name in metrics for side in ("base", "aligned"))]
    rows = [
        [
            *(as_text(content) for content in (one.prompt, one.before.response, one.after.response)),
            *(score for name in metrics for score in one.scores.get(name, (None, None))),
        ]
        for one in answers
    ]
    return columns, rows
