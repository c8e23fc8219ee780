"""What became of one call."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from dpoframe_code.sandbox.short import short
from dpoframe_code.sandbox.tier import Tier


class Status(enum.StrEnum):
    """How a call ended. `PASSED` and `WRONG` are given by a tester; the sandbox itself says `RETURNED`.

    | status | meaning | counts against the program |
    |---|---|---|
    | returned | an answer came back | not yet known |
    | passed | the answer is the expected one | no |
    | wrong | it is another | yes |
    | raised | the call raised | yes |
    | timeout | processor or clock time ran out | yes |
    | died | the process ended, or spoke nonsense on the wire | yes |
    | load_failed | the program did not load | yes |
    | unencodable | the answer is not plain data | yes |
    | infra_error | the sandbox or the tests failed | never |
    """

    RETURNED = "returned"
    PASSED = "passed"
    WRONG = "wrong"
    RAISED = "raised"
    TIMEOUT = "timeout"
    DIED = "died"
    LOAD_FAILED = "load_failed"
    UNENCODABLE = "unencodable"
    INFRA_ERROR = "infra_error"

    @property
    def fatal(self) -> bool:
        """Whether no later call of the same program can be answered."""
        return self in (Status.TIMEOUT, Status.DIED, Status.LOAD_FAILED, Status.INFRA_ERROR)


@dataclass(frozen=True)
class Outcome:
    """What became of one call.

    Attributes:
        status: How it ended.
        tier: The locks it ran under.
        value: The answer as exact builtins where `status` is returned, passed or wrong; else None.
        error: What went wrong in words: the exception's type and text, the signal, the difference.
        seconds: Time by the clock from the question to the answer, measured outside.
        cpu_seconds: Processor time of the whole program, loading and all calls, by the kernel's count; None where unknown.
        output: The beginning of what the whole program wrote to standard output and error.
    """

    status: Status
    tier: Tier | None
    value: Any = None
    error: str = ""
    seconds: float = 0.0
    cpu_seconds: float | None = None
    output: str = ""

    def __repr__(self) -> str:
        parts = {"value": short(self.value), "error": repr(self.error), "output": short(self.output)}
        shown = ", ".join(f"{name}={text}" for name, text in parts.items())
        return f"Outcome({self.status}, {shown}, tier={self.tier}, seconds={self.seconds:.4f}, cpu_seconds={self.cpu_seconds})"
