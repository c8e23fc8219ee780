"""One interval held against one bound, alone or with others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from dpoframe.harness.stats import TAIL, Estimate, holm, smallest_detectable, units_needed

Verdict: TypeAlias = Literal["PASS", "FAIL", "INCONCLUSIVE"]


@dataclass(frozen=True)
class Finding:
    """What one look at the evidence says: verdict and reason; the rest is known of intervals only.

    Attributes:
        verdict: What it says.
        reason: Why, in a sentence or two.
        p_value: One-sided p value against the demand not being met.
        p_holm: The same counting all trials of the gate together.
        needed: Prompts that would decide it, were the truth what was measured; infinity where none would.
    """

    verdict: Verdict
    reason: str
    p_value: float = 1.0
    p_holm: float = 1.0
    needed: float | None = None


@dataclass(frozen=True, eq=False)
class Trial:
    """An estimate that must lie beyond a bound with its whole interval.

    Attributes:
        estimate: As it was measured.
        bound: What it must lie above once it is counted so that higher is better.
        direction: Which way is better.
        what: `difference` or `figure`, for the reason.
        said: The bound as the gate has it; it follows from `bound` where None.
    """

    estimate: Estimate
    bound: float
    direction: Literal["higher", "lower"]
    what: Literal["difference", "figure"]
    said: float | None = None

    @property
    def oriented(self) -> Estimate:
        """The estimate counted so that higher is better."""
        return self.estimate if self.direction == "higher" else self.estimate.mirrored()

    @property
    def alone(self) -> Verdict:
        """What the 95 % interval says."""
        low, high = self.oriented.bounds(TAIL)
        return "PASS" if low > self.bound else "FAIL" if high < self.bound else "INCONCLUSIVE"

    @property
    def needed(self) -> float | None:
        """Prompts that would decide it at 80 % power, were the truth what was measured; None where nothing is known."""
        one = self.oriented
        distance = abs(one.value - self.bound)
        low, high = one.bounds(TAIL)
        if one.n < 2 or not math.isfinite(high - low):
            return None
        if distance < 1e-12:
            return math.inf
        if one.stderr > 0:
            return max(units_needed(one.stderr**2 * one.n, distance), one.n + 1.0)
        # Where no prompt differs the score interval shrinks as 1 / n.
        return float(max(math.ceil(one.n * max(high - one.value, one.value - low) / distance), one.n + 1))


def judged_together(trials: Sequence[Trial], corrected: bool) -> Mapping[Trial, Finding]:
    """A finding for each trial; with `corrected`, all of them are counted together (Holm), for passing and for failing."""
    passing = [trial.oriented.above(trial.bound) for trial in trials]
    failing = holm([trial.oriented.below(trial.bound) for trial in trials]) if corrected else []
    together = holm(passing) if corrected else passing
    found = {}
    for number, trial in enumerate(trials):
        verdict = trial.alone
        if corrected:
            verdict = "PASS" if together[number] <= TAIL else "FAIL" if failing[number] <= TAIL else "INCONCLUSIVE"
        needed = trial.needed if verdict == "INCONCLUSIVE" else None
        found[trial] = Finding(verdict, _reason(trial, verdict, needed, len(trials)), passing[number], together[number], needed)
    return found


def _reason(trial: Trial, verdict: Verdict, needed: float | None, count: int) -> str:
    one = trial.estimate.interval()
    show = "{:+.3g}" if trial.what == "difference" else "{:.3g}"
    bound = trial.said if trial.said is not None else trial.bound if trial.direction == "higher" else 0.0 - trial.bound
    edge = show.format(bound) if bound else "0"
    whose = "the difference" if trial.what == "difference" else "the aligned model's figure"
    told = f"The 95 % interval of {whose}, [{show.format(one.low)}, {show.format(one.high)}],"
    good, bad = ("above", "below") if trial.direction == "higher" else ("below", "above")
    if verdict == "PASS":
        return f"{told} lies {good} {edge}." if trial.what == "difference" else f"{told} lies at {edge} or {good}."
    if verdict == "FAIL":
        return f"{told} lies wholly {bad} {edge}."
    if not math.isfinite(one.high - one.low):
        return f"{one.n} prompts give {whose} no interval. Ask more."
    if trial.alone != "INCONCLUSIVE":
        return f"{told} is clear of {edge}, but not with the {count} tests of this gate counted together. {_settles(trial, needed)}"
    return f"{told} reaches across {edge}. {_settles(trial, needed)}"


def _settles(trial: Trial, needed: float | None) -> str:
    """What would make it conclusive."""
    one = trial.estimate
    if needed is not None and math.isinf(needed):
        return "What was measured is the bound itself: no number of prompts decides that."
    told = ""
    if trial.what == "difference" and one.stderr > 0:
        told = f"{one.n} prompts find a difference of {smallest_detectable(one.stderr**2 * one.n, one.n):.3g} (80 % power). "
    return f"{told}About {needed:,.0f} prompts would decide it, were the truth what was measured."
