"""The evaluation harness: suites run on models, figures with intervals, comparisons, and the report."""

from __future__ import annotations

from dpoframe.harness.compare import Comparison, Difference, SideBySide, compare
from dpoframe.harness.figures import Metric, aggregate
from dpoframe.harness.folder import EvalFolder
from dpoframe.harness.gate import Gate, Judgement, judge, load_gate
from dpoframe.harness.matching import compare_runs
from dpoframe.harness.report import BASE, report
from dpoframe.harness.run import SuiteResult, run_suite
from dpoframe.harness.scoring import score
from dpoframe.harness.subject import Progress, Subject
from dpoframe.harness.suite import Prompt, Suite, load_suite

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
