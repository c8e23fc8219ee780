"""The reporter's contract holds for one that does nothing, and each check fails for one that breaks its rule."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from dpoframe import Reporter, ReporterSession, RunInfo
from dpoframe.testing import ReporterContract


class Session(ReporterSession):
    """Prints, and needs a loss in every row."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Prints the row."""
        sys.stdout.write(json.dumps(row, allow_nan=False))


def reporter_of(start: Any) -> Reporter:
    """A reporter instance with a start function."""
    kind: Any = type("PlainReporter", (Reporter,), {"start": lambda self, run: start(run)})
    return dataclass(frozen=True)(kind)()


SHARED = ReporterSession()


@pytest.mark.parametrize(
    ("start", "check"),
    [
        (lambda run: Session(), "lives_through_a_run"),
        (lambda run: None, "lives_through_a_run"),
        (lambda run: None, "ends_in_every_way"),
        (lambda run: SHARED, "runs_do_not_mix"),
        (lambda run: sys.stdout.write("hello") and ReporterSession(), "keeps_stdout_clean"),
    ],
)
def test_reporter_checks_fail(start: Any, check: str, failed: Any) -> None:
    """Each check of the reporter's contract fails for a reporter that breaks its rule."""
    assert check in failed(ReporterContract, reporter=reporter_of(start))


def test_reporter_that_does_nothing_passes(failed: Any) -> None:
    """Every method of a session may be left out."""

    def start(run: RunInfo) -> ReporterSession:
        return ReporterSession()

    assert failed(ReporterContract, reporter=reporter_of(start)) <= {"pickles"}
