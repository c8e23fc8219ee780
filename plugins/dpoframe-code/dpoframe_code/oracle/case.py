"""Calls with the answers that are expected of them."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpoframe import DataError
from dpoframe_code.sandbox import Call, Limits, Outcome, Sandbox, Status, equal

_MOST_BITS = 256


class _Short(reprlib.Repr):
    """Values in a few characters. An integer of a program's choice may be too long to be written at all."""

    def repr_int(self, x: int, level: int) -> str:
        """Digits, or how many bits there are."""
        return repr(x) if x.bit_length() <= _MOST_BITS else f"<an integer of {x.bit_length()} bits>"


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = 80


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
        asked = f"{self.call.function}({', '.join(map(_SHORT.repr, self.call.args))})"
        said = f"{asked} gave {_SHORT.repr(outcome.value)}; {_SHORT.repr(self.expected)} was expected"
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
