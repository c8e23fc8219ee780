"""Tests that are a script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dpoframe_code.sandbox import Limits, Outcome, Sandbox


@dataclass(frozen=True)
class Script:
    """An oracle for tests that need more than comparing: loops, helpers, tolerances of their own.

    It runs in a locked child of its own; see `Sandbox.judge`.

    Args:
        source: Python source of the tests.
        function: The function in it that is called, and raises where the program is wrong.
        asks: Names that the program defines and the script uses.
    """

    source: str
    function: str
    asks: Sequence[str]

    def judge(self, sandbox: Sandbox, program: str, limits: Limits | None = None) -> Outcome:
        """What the tests say of a program."""
        return sandbox.judge(program, self.source, self.function, self.asks, limits)
