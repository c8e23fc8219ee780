"""The leaderboard: several models on one suite, best first."""

from __future__ import annotations

import math

from dpoframe.harness.comparison.compare import Comparison, Difference
from dpoframe.harness.page.reading import Evaluation, Part


def leading(part: Part) -> list[str]:
    """The columns: each evaluator's first metric, where some model has it."""
    metrics = (part.last.primary(name) for name in part.last.about["order"])
    return [metric for metric in metrics if any(metric in one.metrics for one in part.evaluations)]


def ranked(part: Part) -> list[tuple[Evaluation, Comparison | None]]:
    """The models with their comparison to the baseline, the best of the first column first; equals keep their order."""
    rows = list(zip(part.evaluations, (None, *part.comparisons), strict=True))
    columns = leading(part)
    if not columns:
        return rows
    sign = 1.0 if part.last.scales[columns[0]].get("better") == "lower" else -1.0

    def place(row: tuple[Evaluation, Comparison | None]) -> float:
        value = row[0].figure(columns[0]).value
        return sign * value if math.isfinite(value) else math.inf

    return sorted(rows, key=place)


def difference_of(comparison: Comparison | None, metric: str) -> Difference | None:
    """A metric's difference from the baseline; None for the baseline itself, and where it is not known."""
    return next((one for one in comparison.differences if one.metric == metric), None) if comparison else None


def compared(part: Part, metric: str) -> bool:
    """Whether some model has a difference from the baseline in a metric."""
    return any(difference_of(one, metric) is not None for one in part.comparisons)
