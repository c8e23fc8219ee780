"""The sandbox that evaluators share in a process, and verdicts of the tests in it."""

from __future__ import annotations

import atexit
import functools
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dpoframe import Available, DataError, MachineError, Refused, Sample, UnscoredError
from dpoframe_code.extraction import STOPS, Extracted, extract
from dpoframe_code.oracle import Cases
from dpoframe_code.problems import Problem, oracle_of, problem_of
from dpoframe_code.problems.judging import Oracle
from dpoframe_code.sandbox import Call, Limits, Outcome, Sandbox, Status, Tier, probe
from dpoframe_code.sandbox.sandbox import UNENDED

TIERS: dict[Tier, int] = {tier: number for number, tier in enumerate(Tier, start=1)}
"""The number by which a tier is stored with a score: 1 is the strongest, 2 has no namespaces."""

_kept: dict[int, Sandbox] = {}
_opening = threading.Lock()


@dataclass(frozen=True)
class Tried:
    """An answer that was run: its problem, the program found in it, and what became of that."""

    problem: Problem
    extracted: Extracted
    outcome: Outcome

    @property
    def tier(self) -> float:
        """The number of the tier it ran in."""
        return float(TIERS[self.outcome.tier]) if self.outcome.tier is not None else 0.0


def usable() -> Available | Refused:
    """Whether programs can be run here: a tier starts, and withstands the canaries."""
    return _probed(os.getpid())


@functools.lru_cache(maxsize=1)
def _probed(process: int) -> Available | Refused:
    found = probe()
    if found.tier is not None:
        stronger = (f"; {tier} would need {one}" for tier, lacks in found.missing.items() for one in lacks)
        return Available(f"sandbox of tier {TIERS[found.tier]}: {found.tier}{''.join(stronger)}")
    lacks = [one for missing in found.missing.values() for one in missing]
    reason = "; ".join(dict.fromkeys(f"{one.what}: {one.reason}" for one in lacks)) or "no tier of the sandbox can be had"
    fix = " ".join(dict.fromkeys(one.fix for one in lacks)) or "Run it on Linux."
    return Refused(f"generated code runs only in a sandbox that holds, and none can be had here ({reason})", fix)


def sandbox() -> Sandbox:
    """The process's own sandbox, warm until the process ends.

    Raises:
        UnscoredError: None can be had; the samples are asked about again in the next run.
    """
    with _opening:
        process = os.getpid()
        if process not in _kept:
            try:
                _kept[process] = Sandbox().__enter__()
            except MachineError as error:
                raise UnscoredError(f"infra_error: {error}", again=True) from error
            atexit.register(_close, process)
        return _kept[process]


def _close(process: int) -> None:
    """Ends the sandbox of this process; that of a parent is the parent's."""
    if process == os.getpid() and process in _kept:
        _kept.pop(process).__exit__(None, None, None)


def tried(sample: Sample, limits: Limits, *, check_solution: bool = True, stops: Sequence[str] = STOPS) -> Tried | None:
    """Runs the program in an answer against its problem's tests; None where the sample carries no problem.

    Args:
        sample: The answer.
        limits: What the program may use.
        check_solution: Whether the problem's own solution must pass its tests first. Where it does not, the tests are broken,
            and nothing they say counts.
        stops: What ends a continuation.

    Raises:
        UnscoredError: The sandbox or the tests failed, which says nothing of the answer.
    """
    problem = problem_of(sample)
    if problem is None or not isinstance(sample.response, str):
        return None
    if check_solution and problem.solution:
        _require_sound(problem, limits)
    base = isinstance(sample.prompt, str)
    found = extract(sample.response, problem.entry_point, problem.starter, base=base, stops=stops)
    return Tried(problem, found, judged(problem, found.program, limits))


def judged(problem: Problem, program: str, limits: Limits) -> Outcome:
    """What a problem's tests say of a program.

    Raises:
        UnscoredError: The sandbox or the tests failed.
    """
    outcome = _oracle(problem, limits).judge(sandbox(), program, limits)
    if _without_verdict(outcome) and problem.solution not in ("", program):
        outcome = _settled(problem, program, limits)
    if outcome.status is Status.INFRA_ERROR:
        # Tests that fail will fail again; a sandbox that does may be well tomorrow.
        raise UnscoredError(f"infra_error: {outcome.error}", again="the tests" not in outcome.error)
    return outcome


def _without_verdict(outcome: Outcome) -> bool:
    """Whether the tests got all their answers and came to no end."""
    return outcome.status is Status.INFRA_ERROR and outcome.error.startswith(UNENDED)


def _settled(problem: Problem, program: str, limits: Limits) -> Outcome:
    """Whose fault it is that the tests come to no end: the solution, and then the program once more, are asked about.

    A program may answer with what tests never get through, such as a range of which they take the sum. If that left it
    unscored, it would be better off than a program that is wrong.
    """
    oracle = _oracle(problem, limits)
    solution = oracle.judge(sandbox(), problem.solution, limits)
    again = oracle.judge(sandbox(), program, limits)
    if not _without_verdict(again) or solution.status is not Status.PASSED:
        return again
    return replace(again, status=Status.WRONG, error=f"on its answers, and not on the solution's, {again.error}")


# By the digest of the problem: problems hold lists, which no cache can look up.
_oracles: dict[tuple[str, Limits], Oracle | UnscoredError] = {}
_faults: dict[tuple[str, Limits], str] = {}


def _oracle(problem: Problem, limits: Limits) -> Oracle:
    key = (problem.digest(), limits)
    if key not in _oracles:
        try:
            _oracles[key] = oracle_of(problem, sandbox(), limits)
        except DataError as error:
            _oracles[key] = UnscoredError(f"infra_error: {error}")
    found = _oracles[key]
    if isinstance(found, UnscoredError):
        raise found
    return found


def _require_sound(problem: Problem, limits: Limits) -> None:
    """Raises `UnscoredError` where a problem's own solution does not pass its tests."""
    key = (problem.digest(), limits)
    if key not in _faults:
        outcome = judged(problem, problem.solution, limits)
        passed = outcome.status is Status.PASSED
        _faults[key] = "" if passed else f"{outcome.status}: {outcome.error}"
    if _faults[key]:
        raise UnscoredError(f"infra_error: the tests are broken: the problem's own solution gets {_faults[key]}")


def cases_of(problem: Problem, limits: Limits) -> list[Call]:
    """The calls that the tests make, where that is all they do; else none."""
    oracle = _oracle(problem, limits)
    return [one.call for one in oracle.cases] if isinstance(oracle, Cases) else []
