"""Asks an evaluator for its figures over all samples, within its limit; what goes wrong is a reason, never a number.

The first call gives the figures. The intervals take two thousand more, so their time is bounded too: where they would take
longer than `MOST_SECONDS` the figures stand without an interval, and the reason says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpoframe.errors import PluginError
from dpoframe.evaluator import Evaluator, EvaluatorSpec, Scored
from dpoframe.harness.phases.limits import OverdueError, Pending, asking, is_number, kind, outside, seconds_of, stable
from dpoframe.harness.stats import Interval, aggregate_interval
from dpoframe.harness.stats.aggregate import AGGREGATE_RESAMPLES, FEW_GROUPS, GROUPS, MOST_RESAMPLED

MOST_SECONDS = 600.0
"""What all calls for the intervals of one evaluator may take together."""


class _NoFiguresError(Exception):
    """Why there are no figures at all."""


@dataclass(frozen=True)
class Sums:
    """Figures with intervals by name, and why one of them, or its interval, is unknown."""

    intervals: Mapping[str, Interval]
    reasons: Mapping[str, str]


def summed(evaluator: Evaluator, scored: Sequence[Scored]) -> Sums:
    """The figures of `spec.aggregates`; those that went wrong have a reason and no interval.

    Raises:
        PluginError: The evaluator gave a figure that its spec does not name.
    """
    spec = evaluator.spec
    if not scored or not spec.aggregates:
        return Sums({}, {})
    with asking(evaluator.aggregate, seconds_of(spec)) as ask:
        calls = _Calls(spec, ask, _resamples(len({one.cluster or one.id for one in scored})))
        try:
            found = aggregate_interval(scored, calls)
        except _NoFiguresError as error:
            return Sums({}, dict.fromkeys(spec.aggregates, str(error)))
    reasons = dict(calls.reasons)
    if calls.trouble:
        reasons |= {name: f"no interval: {calls.trouble}" for name, one in found.items() if math.isnan(one.low)}
    return Sums(found, reasons)


def _resamples(clusters: int) -> int:
    """How often `aggregate` is called for the intervals of so many clusters."""
    return FEW_GROUPS if clusters > MOST_RESAMPLED else min(clusters, GROUPS) + AGGREGATE_RESAMPLES


@dataclass
class _Calls:
    """An evaluator's `aggregate` as the bootstrap calls it: first on everything, then on resamples.

    Attributes:
        reasons: Why a figure of the first call is none.
        trouble: What went wrong first on resamples.
        ended: Whether the evaluator is asked no more.
    """

    spec: EvaluatorSpec
    ask: Callable[[Sequence[Scored]], Pending]
    resamples: int
    reasons: dict[str, str] = field(default_factory=dict)
    trouble: str = ""
    ended: bool = False
    count: int = 0
    spent: float = 0.0
    fastest: float = math.inf

    def __call__(self, scores: Sequence[Scored]) -> dict[str, float]:
        """The figures that are numbers; ValueError where a resample has none, which the bootstrap counts."""
        self.count += 1
        if self.count == 1:
            return self._first(scores)
        if self.ended:
            raise ValueError(self.trouble)
        try:
            found = self._numbers(self._asked(scores))
        except _NoFiguresError as error:
            self.trouble = self.trouble or str(error)
            raise ValueError(str(error)) from error
        finally:
            self._weigh_time()
        return found

    def _first(self, scores: Sequence[Scored]) -> dict[str, float]:
        given = self._asked(scores)
        if unknown := sorted(str(name) for name in given if name not in self.spec.aggregates):
            known = ", ".join(sorted(self.spec.aggregates))
            raise PluginError(
                f"The evaluator {self.spec.id!r} gave {', '.join(unknown)}, which its spec does not name. "
                f"Aggregates of its spec: {known}."
            )
        found = self._numbers(given)
        wrong = {
            name: f"TypeError: {name} is {kind(value)}, expected a number" for name, value in given.items() if name not in found
        }
        wrong |= {name: f"{name} is not a finite number" for name, value in found.items() if math.isinf(value)}
        told = {
            name: outside(name, found[name], scale)
            for name, scale in self.spec.aggregates.items()
            if not math.isnan(found.get(name, math.nan))
        }
        self.reasons = {name: reason for name, reason in {**told, **wrong}.items() if reason}
        if not math.isfinite(found.get(self.spec.primary, math.nan)) and self.spec.primary in self.spec.aggregates:
            self.reasons.setdefault(self.spec.primary, "aggregate gave no such figure")
        return {name: value for name, value in found.items() if name not in self.reasons}

    def _asked(self, scores: Sequence[Scored]) -> Mapping[str, Any]:
        """What `aggregate` returned, as a mapping; `_NoFiguresError` with the reason where it did not."""
        started = time.monotonic()
        try:
            found = self.ask(scores)()
        except OverdueError:
            raise _NoFiguresError(f"aggregate was stopped at its limit of {self.spec.limit:g} s") from None
        except (Exception, SystemExit) as error:
            text = stable(error)
            raise _NoFiguresError(f"aggregate raised {type(error).__name__}{': ' if text else ''}{text}") from error
        finally:
            took = time.monotonic() - started
            self.spent, self.fastest = self.spent + took, min(self.fastest, took)
        if not isinstance(found, Mapping):
            raise _NoFiguresError(f"TypeError: aggregate returned {kind(found)}, expected a mapping of figures to numbers")
        return found

    def _numbers(self, given: Mapping[str, Any]) -> dict[str, float]:
        return {name: float(value) for name, value in given.items() if is_number(value)}

    def _weigh_time(self) -> None:
        """Ends the resampling where it would take too long, or has. The first call alone may have loaded libraries."""
        if self.fastest * self.resamples > MOST_SECONDS or self.spent > MOST_SECONDS:
            self.ended = True
            self.trouble = f"{self.resamples} calls of aggregate take longer than {MOST_SECONDS:g} s"
