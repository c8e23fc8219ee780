"""How fast programs are, against the solutions of their problems."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Le

from dpoframe import Available, Evaluator, EvaluatorSpec, Refused, Sample, Scale, Scored, UnscoredError
from dpoframe_code.evaluators.example import EXAMPLES
from dpoframe_code.evaluators.running import cases_of, sandbox, tried, usable
from dpoframe_code.evaluators.spec import SpecOf
from dpoframe_code.problems import Problem
from dpoframe_code.sandbox import Call, Limits, Status

_AGAIN = "_again_and_again"
# Calls from inside: a message to and fro for each would take longer than most functions. Each round is of a module of its own,
# so that what a program has remembered of one round (`functools.cache`) does not make the next one fast.
_LOOP = f"""
import copy, sys, types

def {_AGAIN}(source, name, calls, rounds):
    code = compile(source, "<program>", "exec", dont_inherit=True)
    for _ in range(rounds):
        program = sys.modules["program"] = types.ModuleType("program")
        exec(code, program.__dict__)
        function = program.__dict__[name]
        for args, kwargs in calls:
            function(*copy.deepcopy(args), **copy.deepcopy(kwargs))
        program.__dict__.clear()  # its functions refer to it, so that it would stay for a while
"""
_ENOUGH = 0.1
"""Seconds of calls from which on their time stands out from what else a process does."""
_MOST_ROUNDS = 1 << 14
_SHORTEST = 1e-9
_MEDIAN = math.sqrt(math.pi / 2)
_NORMAL = 1.959964
_STUDENT = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)
"""The 97.5 % points of the normal distribution, and of Student's with 1 to 10 degrees of freedom."""


@dataclass(frozen=True)
class RuntimeRatio(Evaluator):
    """Processor time of a program's calls over that of the problem's own solution, where both pass the tests.

    Both run all calls of the tests in the sandbox, each as many rounds as take it a tenth of a second, and the kernel counts
    their time from outside. Each round loads the program anew; what loading and copying take is measured by itself and taken
    off. The ratio is that of the medians of some repeats, one program after the other in turn. `log2_ratio` is 0 for a program
    as fast as the solution, 1 for one that takes twice as long. Its mean does not let one very slow program drown all others;
    `geometric_mean` is the same as a ratio. Programs that do not pass, and problems whose tests are no plain calls, have no
    ratio.

    Kept with every score are the evidence, `seconds` and `solution_seconds` (medians, of one round of the tests' calls),
    `rounds`, `repeats` and `tier`, and `log2_ratio_error`, the standard error of `log2_ratio` from how far the repeats
    lie apart, widened as few repeats ask for: `dpoframe data build` makes no pair of two programs that differ by less than two
    of these. It takes two repeats.

    What a program remembers from call to call makes it faster, from round to round does not, unless it hides that outside of its
    own module. One that notices that it is timed and does less is counted as fast as it then is: the answers of these rounds are
    not compared.

    Attributes:
        repeats: Measurements of each of the two.
        cpu_seconds: Processor time of one measurement, and of the tests.
        memory_mb: Address space.
    """

    repeats: Annotated[int, Ge(1), Le(99)] = 5
    cpu_seconds: Annotated[int, Ge(1), Le(600)] = 10
    memory_mb: Annotated[int, Ge(64)] = 512

    spec: ClassVar[EvaluatorSpec] = SpecOf(  # type: ignore[assignment]
        EvaluatorSpec(
            "runtime_ratio",
            "0.4.0",
            "response",
            {
                "log2_ratio": Scale(None, None, "doublings", better="lower"),
                "ratio": Scale(0, None, "times the solution's", better="lower"),
            },
            "log2_ratio",
            aggregates={"geometric_mean": Scale(0, None, "times the solution's", better="lower")},
            carried=("tier", "log2_ratio_error", "seconds", "solution_seconds", "rounds", "repeats"),
        )
    )

    def own(self, plain: EvaluatorSpec) -> EvaluatorSpec:
        """The spec with a limit that no sample can reach by itself."""
        return replace(plain, limit=2 * (self.repeats + 20) * (self._limits.wall + 1))

    @property
    def _limits(self) -> Limits:
        return Limits(cpu_seconds=self.cpu_seconds, memory_bytes=self.memory_mb << 20)

    def probe(self) -> Available | Refused:
        """Whether a sandbox holds here."""
        return usable()

    def score(self, sample: Sample) -> Mapping[str, float] | None:
        """The ratio and its logarithm; None where the program does not pass, or there is nothing to compare with."""
        found = tried(sample, self._limits)
        if found is None or not found.problem.solution or found.outcome.status is not Status.PASSED:
            return None
        calls = cases_of(found.problem, self._limits)
        if not calls:
            raise UnscoredError("the tests of the problem are no plain calls that could be timed")
        timed = _timed(_Work(found.problem, calls), found.extracted.program, self._limits, self.repeats)
        return {**timed.figures(), "tier": found.tier}

    def aggregate(self, scores: Sequence[Scored]) -> Mapping[str, float]:
        """Two to the mean of `log2_ratio`."""
        values = [one.values["log2_ratio"] for one in scores]
        return {"geometric_mean": 2 ** (math.fsum(values) / len(values)) if values else math.nan}

    @classmethod
    def example_samples(cls) -> list[Sample]:
        """What `dpoframe plugins check` scores."""
        return list(EXAMPLES)


class _Work:
    """The calls that are timed; equal for equal problems, so that measurements can be looked up."""

    def __init__(self, problem: Problem, calls: Sequence[Call]) -> None:
        self.problem, self.digest = problem, problem.digest()
        self.calls = [(tuple(one.args), dict(one.kwargs)) for one in calls]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Work) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True)
class _Timed:
    """Seconds of one round, measured in turn.

    Attributes:
        solution: Of the solution, one for each repeat.
        own: Of the program.
        rounds: Rounds of the program in a repeat.
    """

    solution: tuple[float, ...]
    own: tuple[float, ...]
    rounds: int

    def figures(self) -> dict[str, float]:
        """The ratio, how sure it is, and what it was made of."""
        solution, own = (max(statistics.median(times), _SHORTEST) for times in (self.solution, self.own))
        told = {"seconds": own, "solution_seconds": solution, "rounds": float(self.rounds), "repeats": float(len(self.own))}
        error = {"log2_ratio_error": self._error()} if len(self.own) > 1 else {}
        return {"log2_ratio": math.log2(own / solution), "ratio": own / solution, **error, **told}

    def _error(self) -> float:
        """Standard error of the logarithm of the ratio: that of a mean, times what a median of normal values has more.

        From few repeats it is as uncertain as they are, so it is widened by Student's distribution over the normal one.
        """
        pairs = zip(self.own, self.solution, strict=True)
        logs = [math.log2(max(own, _SHORTEST) / max(solution, _SHORTEST)) for own, solution in pairs]
        return _widening(len(logs) - 1) * _MEDIAN * statistics.stdev(logs) / math.sqrt(len(logs))


def _widening(freedom: int) -> float:
    """By how much Student's 95 % interval is wider than the normal one; beyond the table, by its expansion in 1 / `freedom`."""
    z = _NORMAL
    beyond = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    student = _STUDENT[freedom - 1] if freedom <= len(_STUDENT) else beyond
    return student / z


# Measured once in a process: an evaluator gives a sample the same score whenever it is asked.
@functools.lru_cache(maxsize=4096)
def _timed(work: _Work, program: str, limits: Limits, repeats: int) -> _Timed:
    both = (work.problem.solution, program)
    rounds = [_rounds(work, one, limits) for one in both]
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for times, one, count in zip(taken, both, rounds, strict=True):
            times.append(_seconds(work, one, limits, count) / count)
    for times, whose in zip(taken, ("the solution", "the program"), strict=True):
        if statistics.median(times) <= 0:
            raise UnscoredError(f"could not be timed: the calls of {whose} take less than copying their arguments varies by")
    return _Timed(tuple(taken[0]), tuple(taken[1]), rounds[1])


@functools.lru_cache(maxsize=4096)
def _rounds(work: _Work, program: str, limits: Limits) -> int:
    """How many rounds it takes a program long enough to be timed."""
    rounds = 1
    while rounds < _MOST_ROUNDS:
        taken = _seconds(work, program, limits, rounds)
        if taken >= _ENOUGH:
            break
        # Straight to the goal, once there is something to go by.
        rounds = min(_MOST_ROUNDS, max(2 * rounds, int(rounds * min(64.0, 1.2 * _ENOUGH / max(taken, _SHORTEST)))))
    return rounds


def _seconds(work: _Work, program: str, limits: Limits, rounds: int) -> float:
    """Processor time of the calls alone.

    Raises:
        UnscoredError: The program does not get through them.
    """
    name = work.problem.entry_point
    idle = f"def {name}(*args, **kwargs):\n    return None\n"
    whole, beside = (_whole(one, name, work.calls, limits, rounds) for one in (program, _beside(program, idle)))
    return max(0.0, whole - beside)


def _beside(program: str, idle: str) -> str:
    """The program with its function replaced by one that does nothing."""
    return f"{program}\n\n{idle}"


def _whole(program: str, name: str, calls: Sequence[Any], limits: Limits, rounds: int) -> float:
    outcome = sandbox().run(_LOOP, [Call(_AGAIN, (program, name, list(calls), rounds))], limits)[0]
    if outcome.status is Status.INFRA_ERROR:
        raise UnscoredError(f"infra_error: {outcome.error}", again=True)
    if outcome.status is not Status.RETURNED or outcome.cpu_seconds is None:
        raise UnscoredError(f"could not be timed: {outcome.status} {outcome.error} in {rounds} rounds of the tests' calls")
    return outcome.cpu_seconds
