"""A reporter that breaks costs itself, not the run, and gives no secret away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from dpoframe import Reporter, ReporterSession, RunInfo, hookimpl

TOKEN = "hf_" + "a" * 34


@dataclass(frozen=True)
class Breaking(Reporter):
    """Raises where it is told to, with a token in the message, or exits."""

    where: str = "start"
    exits: bool = False

    def start(self, run: RunInfo) -> ReporterSession:
        """Breaks here, or later."""
        self.break_at("start")
        return BreakingSession(self)

    def break_at(self, place: str) -> None:
        """Raises if this is the place."""
        if place == self.where:
            raise SystemExit(0) if self.exits else RuntimeError(f"401 with Authorization: Bearer {TOKEN}")


@dataclass
class BreakingSession(ReporterSession):
    """Breaks as its reporter says."""

    reporter: Breaking

    def log(self, row: Mapping[str, Any]) -> None:
        """Breaks here."""
        self.reporter.break_at("log")

    def finish(self, status: str) -> None:
        """Or here."""
        self.reporter.break_at("finish")


class Plugin:
    """Supplies it."""

    @hookimpl
    def dpoframe_reporters(self) -> Mapping[str, type[Reporter]]:
        """By its name."""
        return {"breaking": Breaking}


@pytest.mark.parametrize("exits", [False, True], ids=["raises", "exits"])
@pytest.mark.parametrize("where", ["start", "log", "finish"])
def test_a_reporter_that_breaks_is_left_out(where: str, exits: bool, host: Any, run: Any, look: Any) -> None:
    """At its start, at a row, at the end: a warning names it, the token is masked, and the run's rows are those without it."""
    host.register(Plugin(), "breaking")
    plain = run("plain")
    with pytest.warns(RuntimeWarning, match="The reporter 'breaking' failed and is left out") as told:
        broken = run("broken", reporters=[{"name": "breaking", "where": where, "exits": exits}])
    assert broken.status == "finished"
    assert look.rows(broken) == look.rows(plain)
    assert not any(TOKEN in str(one.message) for one in told)
