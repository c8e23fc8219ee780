"""What comes out of a suite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dpoframe.harness.stats import Interval


@dataclass(frozen=True)
class Metric:
    """One figure of a suite: `unscored` counts the samples its evaluator could not score.

    `reason` says why the figure, or its interval, is unknown where not for want of scored samples; empty otherwise.
    """

    id: str
    interval: Interval
    unscored: int
    reason: str = ""


@dataclass(frozen=True)
class SuiteResult:
    """What a suite says of a model. `limit` is the number of prompts and pairs where not all were asked for."""

    suite: str
    model: str
    folder: Path
    metrics: Mapping[str, Metric]
    complete: bool
    limit: int | None = None
