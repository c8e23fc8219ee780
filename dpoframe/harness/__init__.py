"""The evaluation harness: suites run on models, figures with intervals, comparisons, and the report."""

from __future__ import annotations

from dpoframe.harness.comparison.compare import Comparison, Difference, SideBySide, compare
from dpoframe.harness.comparison.matching import compare_runs
from dpoframe.harness.gates import Gate, Judgement, judge, load_gate
from dpoframe.harness.phases.figures import aggregate
from dpoframe.harness.phases.scoring import score
from dpoframe.harness.report import BASE, report
from dpoframe.harness.result import Metric, SuiteResult
from dpoframe.harness.run import run_suite
from dpoframe.harness.storage.folder import EvalFolder
from dpoframe.harness.subject import Progress, Subject
from dpoframe.harness.suites.loading import load_suite
from dpoframe.harness.suites.suite import Prompt, Suite

__all__ = [
    "BASE",
    "Comparison",
    "Difference",
    "EvalFolder",
    "Gate",
    "Judgement",
    "Metric",
    "Progress",
    "Prompt",
    "SideBySide",
    "Subject",
    "Suite",
    "SuiteResult",
    "aggregate",
    "compare",
    "compare_runs",
    "judge",
    "load_gate",
    "load_suite",
    "report",
    "run_suite",
    "score",
]
