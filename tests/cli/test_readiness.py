"""What `doctor` says of evaluators, and that nothing they do stops it."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from dpoframe import Available, Evaluator, EvaluatorSpec, Refused, Sample, Scale, hookimpl
from dpoframe.cli import readiness
from dpoframe.cli.finding import Finding
from dpoframe.plugins import PluginHost, using

SPEC = EvaluatorSpec("asked/1", "1", "response", {"x": Scale()}, "x")


@dataclass(frozen=True)
class Ready(Evaluator):
    """One that can run, and says nothing of it."""

    spec = SPEC

    def score(self, sample: Sample) -> dict[str, float]:
        """A number."""
        return {"x": 1.0}


@dataclass(frozen=True)
class Locked(Ready):
    """One that can run, with something worth telling."""

    def probe(self) -> Available | Refused:
        """Tells it."""
        sys.stdout.write("not for the document")
        return Available("a box of tier 2")


@dataclass(frozen=True)
class AlsoLocked(Locked):
    """Another that says the same."""


@dataclass(frozen=True)
class Lacking(Ready):
    """One that cannot run."""

    def probe(self) -> Available | Refused:
        """Refuses."""
        return Refused("there is no box", "Install box.")


@dataclass(frozen=True)
class Set(Ready):
    """One that is nothing without a setting."""

    judge: str = field(kw_only=True)


@dataclass(frozen=True)
class Raising(Ready):
    """One with a fault."""

    def probe(self) -> Available | Refused:
        """Fails."""
        raise KeyError("probe")


@dataclass(frozen=True)
class Leaving(Ready):
    """One that ends the process."""

    def probe(self) -> Available | Refused:
        """Ends it."""
        sys.exit(0)


@dataclass(frozen=True)
class Silent(Ready):
    """One whose probe says nothing."""

    def probe(self) -> Any:
        """Nothing."""


@dataclass(frozen=True)
class Hanging(Ready):
    """One that never answers, whatever is raised in it."""

    def probe(self) -> Available | Refused:
        """Waits."""
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(60)


def asked(**parts: Any) -> dict[str, Finding]:
    """What the doctor finds of a plugin's evaluators, by what it looked at."""

    class Plugin:
        @hookimpl
        def dpoframe_evaluators(self) -> dict[str, Any]:
            return parts

    host = PluginHost(entry_points=[], disabled=["builtin"])
    host._plugins.clear()
    host.register(Plugin(), "boxes")
    with using(host):
        return {finding.what: finding for finding in readiness.evaluators()}


def test_doctor_tells_what_evaluators_say(capsys: pytest.CaptureFixture[str]) -> None:
    """Each evaluator that refuses stands there with its fix; those that say the same share a line; nothing goes to stdout."""
    found = asked(a=Locked, b=AlsoLocked, c=Lacking, d=Ready, e=Set)
    assert found["evaluator a, b"] == Finding("evaluator a, b", "ok", "a box of tier 2")
    assert found["evaluator c"] == Finding("evaluator c", "note", "there is no box", "Install box.")
    assert found["other evaluators"].found == "1 can run here; not asked, as they need settings: e"
    assert len(found) == 3
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (Raising, "KeyError: 'probe'"),
        (Leaving, "SystemExit: 0"),
        (Silent, "its probe gave NoneType"),
        ("nowhere.at_all:Thing", "nowhere"),
        ("builtins:int", "int"),
    ],
)
def test_doctor_outlives_evaluators(part: Any, said: str) -> None:
    """An evaluator that raises, exits, answers nonsense or cannot be imported is a warning with a fix, and the next is asked."""
    found = asked(a=part, b=Locked)
    assert (found["evaluator a"].status, bool(found["evaluator a"].fix)) == ("warning", True)
    assert said in found["evaluator a"].found
    assert found["evaluator b"].status == "ok"


def test_doctor_outlives_evaluators_that_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not answer costs its time once: the plugin's others are not asked, whatever they might do."""
    monkeypatch.setattr(readiness, "SECONDS", 0.3)
    begin = time.monotonic()
    found = asked(a=Hanging, b=Hanging, c=Locked)
    assert time.monotonic() - begin < 5
    assert found["evaluator a"].found == "did not say in 0.3 s whether it can run here"
    assert found["evaluator b, c"].found == "not asked after a"
    assert {one.status for one in found.values()} == {"warning"}
