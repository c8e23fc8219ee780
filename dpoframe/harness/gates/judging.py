"""What the evidence says of a gate: PASS, FAIL, or that it does not suffice, and then what would."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpoframe.errors import ConfigError, Fault, suggestion
from dpoframe.harness.comparison.comparable import against_base
from dpoframe.harness.comparison.compare import Comparison
from dpoframe.harness.comparison.difference import Difference
from dpoframe.harness.comparison.matching import require_finished
from dpoframe.harness.comparison.verdicts import asked
from dpoframe.harness.gates.gate_file import Direction, Gate, GateRow
from dpoframe.harness.gates.trial import Finding, Trial, Verdict, judged_together
from dpoframe.harness.stats import Interval, from_interval

MANY = 0.05
"""The share of unscored samples above which a row that does not bound them says so."""

EXIT_CODES: Mapping[Verdict, int] = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 2}


@dataclass(frozen=True)
class Judged:
    """The verdict on one row of a gate, with what a release engineer asks next.

    Attributes:
        suite: The suite.
        metric: The metric.
        direction: Which way is better.
        margin: The row's margin; None where it asks for no difference.
        demand: What the row asks for, in words.
        verdict: What the evidence says.
        reason: Why, in sentences.
        difference: Aligned minus base with its interval; None where the row asks for none, or there is none.
        figure: The aligned model's own figure with its interval, where the row bounds it.
        n: Prompts that the verdict rests on.
        unscored: Samples that could not be used.
        detectable: The smallest true difference that so many prompts find at 80 % power; nan where that is not known.
        needed: Prompts that would decide an inconclusive row, were the truth what was measured; None elsewhere.
        p_value: One-sided p value of the demand, the largest where the row makes several; None where it tests nothing.
        p_holm: The same counting all rows together, where the gate asks for that.
        lost: Yes-or-no metrics: ids of the samples that were right before and are wrong now.
    """

    suite: str
    metric: str
    direction: Direction
    margin: float | None
    demand: str
    verdict: Verdict
    reason: str
    difference: Interval | None = None
    figure: Interval | None = None
    n: int = 0
    unscored: int = 0
    detectable: float = math.nan
    needed: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judgement:
    """The verdict of a gate: FAIL where any row fails, else INCONCLUSIVE where any is, else PASS."""

    rows: tuple[Judged, ...]
    gate: str = "the gate"
    holm: bool = False

    @property
    def verdict(self) -> Verdict:
        """Of all rows together."""
        return worst([row.verdict for row in self.rows])

    @property
    def exit_code(self) -> int:
        """0 PASS, 1 FAIL, 2 INCONCLUSIVE."""
        return EXIT_CODES[self.verdict]


@dataclass
class _Case:
    """One row with its evidence on the way to a verdict."""

    row: GateRow
    comparison: Comparison
    direction: Direction
    difference: Difference | None
    figure: Interval | None
    trials: list[Trial] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def judge(gate: Gate, comparisons: Sequence[Comparison]) -> Judgement:
    """Holds every row of a gate against the comparison of its suite.

    A difference is tested for non-inferiority: PASS where its interval lies above minus the margin (in the metric's better
    direction), FAIL where it lies wholly below, else INCONCLUSIVE. That is a one-sided test at 2.5 % either way.

    Raises:
        ConfigError: With every row that names a suite, a metric or a direction that is not there.
        DataError: A comparison is of evaluations that are not finished.
    """
    for one in comparisons:
        require_finished(one)
    faults: list[Fault] = []
    cases = [case for number, row in enumerate(gate.rows) if (case := _case(row, gate.where(number), comparisons, faults))]
    if faults:
        raise ConfigError(f"The gate {gate.name} cannot judge this comparison:", faults)
    for case in cases:
        case.trials = list(_trials(case))
        case.findings = list(_counts(case))
    together = judged_together([trial for case in cases for trial in case.trials], gate.holm)
    return Judgement(tuple(_judged(case, together, gate.holm) for case in cases), gate.name, gate.holm)


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """FAIL before INCONCLUSIVE before PASS."""
    order: tuple[Verdict, ...] = ("FAIL", "INCONCLUSIVE", "PASS")
    return next((one for one in order if one in verdicts), "PASS")


def _case(row: GateRow, where: str, comparisons: Sequence[Comparison], faults: list[Fault]) -> _Case | None:
    """The evidence for a row; None, and a fault, where it asks for something that is not there."""
    known = {one.name: one for one in comparisons}
    if (comparison := known.get(row.suite)) is None:
        told = f"the suite {row.suite!r} was not compared; compared were: {', '.join(known) or 'none'}."
        faults.append(Fault(where, told, suggestion(row.suite, known)))
        return None
    if (scale := comparison.scale(row.metric)) is None:
        told = f"the suite {row.suite} has no metric {row.metric!r}."
        near = suggestion(row.metric, comparison.metrics) or f"It has: {', '.join(comparison.metrics)}."
        faults.append(Fault(where, told, near))
        return None
    direction, fault = _direction(row, scale, where)
    difference = next((one for one in comparison.differences if one.metric == row.metric), None)
    if fault is None and (why := _unlike(row, comparison)):
        fault = Fault(where, f"there is no difference of {row.metric} to judge: {why}")
    if fault is None and row.compares and difference is None and row.metric in _aggregates(comparison):
        fault = Fault(where, f"there is no difference of {row.metric} to judge.", " ".join(comparison.notes))
    if fault is not None:
        faults.append(fault)
        return None
    return _Case(row, comparison, direction, difference, _figure(comparison, row.metric))


def _direction(row: GateRow, scale: Mapping[str, Any], where: str) -> tuple[Direction, Fault | None]:
    own: Direction | None = scale["better"]
    if row.direction is not None and own is not None and row.direction != own:
        told = f"direction is {row.direction}, but {row.metric} is better when {own}."
        return row.direction, Fault(where, told, "Leave the direction out.")
    if row.direction is None and own is None and row.compares:
        told = f"{row.metric} is better neither when higher nor when lower."
        return "higher", Fault(where, told, "Say `direction: higher` or `direction: lower`, or bound it by at_least and at_most.")
    return row.direction or own or "higher", None


def _unlike(row: GateRow, comparison: Comparison) -> str:
    """Why a row on a metric that was held against unlike things cannot be judged; empty where it can.

    The aligned model's own figure may be bounded, but not where it was held against itself while the other was not.
    """
    why = comparison.left_out.get(row.metric, "")
    about, bounded = comparison.after, row.at_least is not None or row.at_most is not None
    spec = next(spec for spec in about["evaluators"].values() if row.metric in spec["metrics"])
    itself = against_base(spec) and about.get("base_digest") == about.get("model_digest")
    return why if row.compares or (bounded and itself) else ""


def _aggregates(comparison: Comparison) -> set[str]:
    return {metric for spec in comparison.after["evaluators"].values() for metric in spec.get("aggregates", ())}


def _figure(comparison: Comparison, metric: str) -> Interval | None:
    """The aligned model's own figure as its results have it; None where it has no value."""
    found = comparison.figures.get(metric) or {}
    if not found.get("n") or found.get("value") is None:
        return None
    known = [found[name] if found.get(name) is not None else math.nan for name in ("value", "ci_low", "ci_high", "stderr")]
    value, low, high, stderr = (float(number) for number in known)
    return Interval(value, low, high, stderr, int(found["n"]))


def _trials(case: _Case) -> Iterator[Trial]:
    """The intervals that the row holds against a bound."""
    row = case.row
    if row.compares and case.difference is not None and case.difference.estimate is not None:
        yield Trial(case.difference.estimate, row.threshold, case.direction, "difference")
    if case.figure is not None:
        figure = from_interval(case.figure)
        # A figure that is the bound itself is at least the bound.
        if row.at_least is not None:
            yield Trial(figure, math.nextafter(row.at_least, -math.inf), "higher", "figure", row.at_least)
        if row.at_most is not None:
            yield Trial(figure, math.nextafter(-row.at_most, -math.inf), "lower", "figure", row.at_most)


def _counts(case: _Case) -> Iterator[Finding]:
    """What the row says of numbers of samples, and of evidence that is missing."""
    row, unscored = case.row, _unscored(case)
    if row.max_unscored is not None:
        count = _asked(case.comparison, row.metric)
        most = row.max_unscored if row.max_unscored >= 1 or row.max_unscored == 0 else row.max_unscored * count
        verdict: Verdict = "FAIL" if unscored > most else "PASS"
        yield Finding(verdict, f"{unscored} of {count} samples are unscored; {row.max_unscored:g} may be.")
    if row.compares and case.difference is None:
        yield Finding("INCONCLUSIVE", "No sample was scored in both evaluations.")
    if (row.at_least is not None or row.at_most is not None) and case.figure is None:
        yield Finding("INCONCLUSIVE", "The aligned model has no figure: no sample was scored.")
    if row.max_unscored is None and (told := _unbounded(case)):
        yield Finding("PASS", told)
    if row.min_n is not None and _n(case) < row.min_n:
        yield Finding("INCONCLUSIVE", f"{_n(case)} prompts, fewer than the {row.min_n} that the gate asks for.")


def _unbounded(case: _Case) -> str:
    """What a row that bounds no unscored samples should say of them: that they are many, or not as many in both runs."""
    comparison, metric = case.comparison, case.row.metric
    count = _asked(comparison, metric)
    before, after = (
        int((figures.get(metric) or {}).get("unscored") or 0) for figures in (comparison.figures_before, comparison.figures)
    )
    compares = case.row.compares and case.difference is not None
    if _unscored(case) <= MANY * count and not (compares and before != after):
        return ""
    apart = f" ({before} before, {after} after)" if compares else ""
    return f"{_unscored(case)} of {count} samples are unscored{apart}, which this row does not bound: give max_unscored."


def _judged(case: _Case, together: Mapping[Trial, Finding], holm: bool) -> Judged:
    row = case.row
    tried = [together[trial] for trial in case.trials]
    found = [*tried, *case.findings]
    verdict = worst([one.verdict for one in found])
    needed = [one.needed for one in tried if one.verdict == "INCONCLUSIVE" and one.needed is not None]
    return Judged(
        suite=row.suite,
        metric=row.metric,
        direction=case.direction,
        margin=row.margin if row.compares else None,
        demand=row.demand,
        verdict=verdict,
        reason=" ".join(one.reason for one in found),
        difference=case.difference.difference if row.compares and case.difference is not None else None,
        figure=case.figure if row.at_least is not None or row.at_most is not None else None,
        n=_n(case),
        unscored=_unscored(case),
        detectable=case.difference.detectable if row.compares and case.difference is not None else math.nan,
        needed=max(needed) if needed else None,
        p_value=max((one.p_value for one in tried), default=None),
        p_holm=max((one.p_holm for one in tried), default=None) if holm else None,
        lost=_lost(case),
    )


def _n(case: _Case) -> int:
    """Prompts behind the verdict: the fewest, where a row looks at both the difference and the figure."""
    sizes = [trial.estimate.n for trial in case.trials]
    if not sizes:
        sizes = [one.n for one in (case.difference.difference if case.difference else None, case.figure) if one is not None]
    return min(sizes, default=0)


def _unscored(case: _Case) -> int:
    if case.row.compares and case.difference is not None:
        return case.difference.unscored
    return int((case.comparison.figures.get(case.row.metric) or {}).get("unscored") or 0)


def _asked(comparison: Comparison, metric: str) -> int:
    """Samples that the metric's evaluator was to read."""
    about = comparison.after
    return asked(about, next(spec for spec in about["evaluators"].values() if metric in spec["metrics"]))


def _lost(case: _Case) -> tuple[str, ...]:
    if not case.row.compares or case.difference is None:
        return ()
    return case.difference.lost_ids if case.direction == "higher" else case.difference.gained_ids
