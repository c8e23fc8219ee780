"""Calls with the answers that are expected of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpoframe import DataError
from dpoframe_code.sandbox import Call, Limits, Outcome, Sandbox, Status, equal
from dpoframe_code.sandbox.short import short


@dataclass(frozen=True)
class Case:
    """A call and the answer that is expected of it.

    Args:
        call: What is asked.
        expected: The right answer.
        tolerance: How far numbers of it may differ; see `equal`.
    """

    call: Call
    expected: Any
    tolerance: float = 0.0

    def judged(self, outcome: Outcome) -> Outcome:
        """The outcome with a status of passed or wrong in place of returned."""
        if outcome.status is not Status.RETURNED:
            return outcome
        if equal(outcome.value, self.expected, self.tolerance):
            return replace(outcome, status=Status.PASSED)
        asked = f"{self.call.function}({', '.join(map(short, self.call.args))})"
        said = f"{asked} gave {short(outcome.value)}; {short(self.expected)} was expected"
        return replace(outcome, status=Status.WRONG, error=said)


@dataclass(frozen=True)
class Cases:
    """An oracle of cases, of which all must pass.

    Raises:
        DataError: There is no case: whatever does nothing would pass.
    """

    cases: Sequence[Case]

    def __post_init__(self) -> None:
        if not self.cases:
            raise DataError("An oracle without a case: every program would pass. Give at least one call and its answer.")

    def outcomes(self, sandbox: Sandbox, program: str, limits: Limits | None = None) -> list[Outcome]:
        """One judged outcome a case."""
        found = sandbox.run(program, [case.call for case in self.cases], limits)
        return [case.judged(outcome) for case, outcome in zip(self.cases, found, strict=True)]

    def judge(self, sandbox: Sandbox, program: str, limits: Limits | None = None) -> Outcome:
        """The first outcome that is not a pass, or a pass."""
        found = self.outcomes(sandbox, program, limits)
        return next((outcome for outcome in found if outcome.status is not Status.PASSED), found[-1])
