"""The ratio of run times."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import pytest
from dpoframe_code.evaluators import runtime_ratio
from dpoframe_code.evaluators.example import EXAMPLES
from dpoframe_code.evaluators.runtime_ratio import RuntimeRatio
from dpoframe_code.problems import Problem
from dpoframe_code.sandbox import Sandbox

from dpoframe import Sample, Scored, UnscoredError
from dpoframe.testing import EvaluatorContract

SQUARES = "def total(n):\n    return sum(i * i for i in range(n))"
PROBLEM = Problem("made/1", "total", "asserts", tests="assert total(20000) == 2666466670000", solution=SQUARES)


class TestContract(EvaluatorContract):
    """The evaluator keeps the contract."""

    evaluator = RuntimeRatio(repeats=1)
    samples = EXAMPLES


def answer(code: str, problem: Problem = PROBLEM) -> Sample:
    """An answer in chat."""
    return Sample("a#0", [{"role": "user", "content": "?"}], f"```python\n{code}\n```", meta={"problem": problem.plain()})


def patiently(evaluator: RuntimeRatio, sample: Sample) -> Mapping[str, float] | None:
    """The score; a program that takes nearly no time cannot always be timed on a machine with other work, so it gets four tries."""
    for _ in range(3):
        with contextlib.suppress(UnscoredError):
            return evaluator.score(sample)
    return evaluator.score(sample)


@pytest.mark.parametrize(
    ("code", "low", "high"),
    [
        (f"{SQUARES}  # the same", 0.7, 1.4),
        (SQUARES.replace("return", "for _ in range(3): sum(i * i for i in range(n))\n    return"), 2.8, 5.6),
        ("def total(n):\n    return (n - 1) * n * (2 * n - 1) // 6", 0.0, 0.1),
    ],
)
def test_ratios(sandbox: Sandbox, code: str, low: float, high: float) -> None:
    """The same work takes the same time, four times the work four times as long, and a formula nearly none."""
    found = patiently(RuntimeRatio(repeats=3), answer(code))
    assert found is not None
    assert low <= found["ratio"] <= high
    assert 2 ** found["log2_ratio"] == pytest.approx(found["ratio"])
    assert found["seconds"] / found["solution_seconds"] == pytest.approx(found["ratio"])
    assert found["repeats"] == 3


KEPT = "if n in kept: return kept[n]\n    return kept.setdefault(n, sum(i * i for i in range(n)))"
REMEMBERING = {
    "cache": f"import functools\n@functools.cache\n{SQUARES}",
    "table": f"kept = {{}}\ndef total(n):\n    {KEPT}",
}


@pytest.mark.parametrize("name", REMEMBERING)
def test_what_is_remembered_from_round_to_round_is_no_speed(sandbox: Sandbox, name: str) -> None:
    """A cache spares the second of two equal calls of the tests, and nothing of their repetitions."""
    problem = Problem("made/3", "total", "asserts", tests="\n".join([PROBLEM.tests] * 2), solution=SQUARES)
    found = RuntimeRatio(repeats=3).score(answer(REMEMBERING[name], problem))
    assert found is not None
    assert 0.35 <= found["ratio"] <= 0.7


def test_large_tables_do_not_pile_up(sandbox: Sandbox) -> None:
    """What a program holds is gone before the next round, so that hundreds of them fit into the memory of one."""
    found = RuntimeRatio(repeats=1, memory_mb=128).score(answer(f"TABLE = [0] * 1_000_000\n{SQUARES}"))
    assert found is not None
    assert found["rounds"] > 20


def test_programs_are_timed_as_modules(sandbox: Sandbox) -> None:
    """Future imports, dataclasses and pickled classes of a program work while it is timed."""
    code = """from __future__ import annotations
import dataclasses, pickle
@dataclasses.dataclass
class Sum:
    value: int = 0
def total(n):
    return pickle.loads(pickle.dumps(Sum(sum(i * i for i in range(n))))).value"""
    found = RuntimeRatio(repeats=1).score(answer(code))
    assert found is not None
    assert found["ratio"] > 0.5


def test_only_what_passes_is_timed(sandbox: Sandbox) -> None:
    """A wrong program has no ratio, however fast it is."""
    assert RuntimeRatio(repeats=1).score(answer("def total(n): return 0")) is None


def test_tests_that_are_no_calls(sandbox: Sandbox) -> None:
    """Where the tests are more than calls, nothing is timed, and it says why."""
    problem = Problem("made/2", "total", "asserts", tests="for n in (1, 2): assert total(n) >= 0", solution=SQUARES)
    with pytest.raises(UnscoredError, match="no plain calls"):
        RuntimeRatio(repeats=1).score(answer(SQUARES, problem))


def test_geometric_mean() -> None:
    """Half and twice the time are as fast as the solution, taken together."""
    scores = [Scored(str(number), "", {"log2_ratio": value}) for number, value in enumerate((-1.0, 1.0))]
    assert RuntimeRatio().aggregate(scores) == {"geometric_mean": 1.0}


def test_error_of_a_median() -> None:
    """Three logarithms of a ratio that lie 1 apart have the deviation 1, and the median's error is sqrt(pi / 2 / 3), widened."""
    timed = runtime_ratio._Timed(solution=(1.0, 1.0, 1.0), own=(1.0, 2.0, 4.0), rounds=8)
    figures = timed.figures()
    assert figures["log2_ratio_error"] == pytest.approx(0.7236012545582677 * 4.302652729911275 / 1.959963984540054, rel=1e-4)
    assert (figures["log2_ratio"], figures["rounds"], figures["seconds"]) == (1.0, 8.0, 2.0)
    assert "log2_ratio_error" not in runtime_ratio._Timed((1.0,), (2.0,), 1).figures()


@pytest.mark.parametrize("freedom", [1, 2, 4, 10, 11, 30, 98])
def test_few_repeats_widen_the_error(freedom: int) -> None:
    """Two errors hold what 95 % of Student's distribution do, as scipy has it: of five repeats they are 2.8 plain ones."""
    stats = pytest.importorskip("scipy.stats")
    wanted = stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975)
    assert runtime_ratio._widening(freedom) == pytest.approx(wanted, rel=0.005)


def test_noise_is_not_speed(sandbox: Sandbox) -> None:
    """The solution against itself is within three of its own standard errors of no difference."""
    found = RuntimeRatio(repeats=5).score(answer(f"{SQUARES}\n"))
    assert found is not None
    assert abs(found["log2_ratio"]) <= max(3 * found["log2_ratio_error"], 0.1)
