"""Tests of problems as oracles: right and wrong programs in every layout, and what tests may be made of."""

from __future__ import annotations

from typing import Any

import pytest
from dpoframe_code.oracle import Cases, Script
from dpoframe_code.problems import Problem, oracle_of
from dpoframe_code.problems.judging import Extended
from dpoframe_code.problems.layouts import problem_in
from dpoframe_code.sandbox import Sandbox, Status

from dpoframe import DataError

WRONG = {
    "HumanEval": "def top(xs):\n    return 3\n",
    "HumanEval+": "def top(xs):\n    return max(xs, default=0) and max(xs) + 0.001\n",
    "EvalPlus": "def top(xs):\n    return max([0, *xs])\n",
    "MBPP": "def larger(a, b):\n    return b\n",
    "sanitized": "def root(x):\n    return x / 2 * 1.4142\n",
    "MBPP+": "def root(x):\n    return round(x ** 0.5, 3)\n",
}


def problem(tests: str, solution: str, name: str = "f") -> Problem:
    """A problem of assert statements."""
    return Problem("made/1", name, "asserts", tests=tests, solution=solution)


@pytest.mark.parametrize("name", WRONG)
def test_layouts_are_judged(sandbox: Sandbox, rows: dict[str, dict[str, Any]], name: str) -> None:
    """In every layout the problem's own solution passes, a wrong program is wrong, and an empty one raises."""
    made = problem_in(rows[name])
    oracle = oracle_of(made, sandbox)
    statuses = [oracle.judge(sandbox, program).status for program in (made.solution, WRONG[name], "")]
    assert statuses == [Status.PASSED, Status.WRONG, Status.RAISED]


def test_plain_asserts_are_cases(sandbox: Sandbox) -> None:
    """Asserts of plain calls are compared outside, without a second process."""
    oracle = oracle_of(problem("import math\nassert f(1) == 2\nassert f(2) == 3", "def f(x): return x + 1"), sandbox)
    assert isinstance(oracle, Cases)
    assert [case.expected for case in oracle.cases] == [2, 3]


def test_helpers_of_the_tests(sandbox: Sandbox) -> None:
    """Tests with imports, helpers, data and loops run as they are, apart from the program."""
    helper = "import math\nROWS = [(1, 1.0), (4, 2.0)]\ndef near(a, b):\n    return math.isclose(a, b)\n"
    tests = helper + "for x, y in ROWS:\n    assert near(f(x), y)"
    oracle = oracle_of(problem(tests, "def f(x): return x ** 0.5"), sandbox)
    assert isinstance(oracle, Script)
    assert oracle.judge(sandbox, "def f(x): return x ** 0.5").status is Status.PASSED
    assert oracle.judge(sandbox, "def f(x): return 1.0").status is Status.WRONG


OWN_CLASS = (
    "class Pair:\n    def __init__(self, a, b):\n        self.a, self.b = a, b\ndef f(pairs):\n    return sum(p.a for p in pairs)\n"
)


def test_arguments_of_the_programs_own_classes(sandbox: Sandbox) -> None:
    """Arguments that only the program can make are made there; the right answers stay outside."""
    oracle = oracle_of(problem("assert f([Pair(1, 2), Pair(3, 4)]) == 4\nassert f([]) == 0", OWN_CLASS), sandbox)
    assert isinstance(oracle, Extended)
    assert "4" not in oracle.addition.replace("Pair(3, 4)", "")
    assert oracle.judge(sandbox, OWN_CLASS).status is Status.PASSED
    assert oracle.judge(sandbox, OWN_CLASS.replace("p.a", "p.b")).status is Status.WRONG
    assert oracle.judge(sandbox, "def f(pairs): return 4").status is Status.RAISED


def test_data_of_the_programs_own_classes(sandbox: Sandbox) -> None:
    """Statements that build such arguments go with them, in their order."""
    tests = "first = Pair(1, 2)\nfirst.a = 5\nassert f([first]) == 5"
    oracle = oracle_of(problem(tests, OWN_CLASS), sandbox)
    assert oracle.judge(sandbox, OWN_CLASS).status is Status.PASSED
    assert oracle.judge(sandbox, OWN_CLASS.replace("p.a for", "1 for")).status is Status.WRONG


def test_types_as_arguments(sandbox: Sandbox) -> None:
    """A builtin type is no plain data, and reaches the program all the same."""
    solution = "def f(xs, kind): return [x for x in xs if type(x) is kind]"
    oracle = oracle_of(problem("assert f([1, 'a'], str) == ['a']\nassert f([1, 2], int) == [1, 2]", solution), sandbox)
    assert oracle.judge(sandbox, solution).status is Status.PASSED
    assert oracle.judge(sandbox, "def f(xs, kind): return xs").status is Status.WRONG


CHEATS = {
    "equal to all": "class A:\n    def __eq__(self, other): return True\ndef f(pairs): return A()\nPair = lambda a, b: 0",
    "leaves": "import os\nPair = lambda a, b: 0\ndef f(pairs): os._exit(0)",
    "overwrites what is added": "Pair = lambda a, b: 0\ndef f(pairs): return 9\nimport sys\ndef _asked_0(): return 9",
    "ends the file": "Pair = lambda a, b: 0\ndef f(pairs): return 9\nif False:\n    '''",
}


@pytest.mark.parametrize("name", CHEATS)
def test_additions_help_no_cheat(sandbox: Sandbox, name: str) -> None:
    """A program that knows what is added to it still has to answer: nothing but the right answer passes."""
    oracle = oracle_of(problem("assert f([Pair(1, 2), Pair(3, 4)]) == 4", OWN_CLASS), sandbox)
    assert oracle.judge(sandbox, CHEATS[name]).status not in (Status.PASSED, Status.INFRA_ERROR)


NUMBERS = [(1.0, 1.0, True), (1.0, 1.0 + 2e-7, True), (1.0, 1.1, False), ([1.0, 2.0], [1.0, 2.0], True), ([1.0], [1.0, 2.0], False)]


@pytest.mark.parametrize(("out", "expected", "close"), NUMBERS)
def test_numpy_stands_in(sandbox: Sandbox, out: object, expected: object, close: bool) -> None:
    """`np.allclose` in tests says what numpy's says, without numpy in the sandbox."""
    np = pytest.importorskip("numpy")
    shapes = np.shape(out) == np.shape(expected)
    assert (shapes and bool(np.allclose(out, expected, rtol=1e-07, atol=1e-06))) is close
    tests = f"import numpy as np\nassert np.allclose(f(), {expected!r}, rtol=1e-07, atol=1e-06)"
    oracle = oracle_of(problem(tests, "def f(): return 1"), sandbox)
    status = oracle.judge(sandbox, f"def f(): return {out!r}").status
    assert status is (Status.PASSED if close else Status.WRONG)


@pytest.mark.parametrize("tests", ["", "x = 1", "import math\n'''nothing'''"])
def test_tests_that_ask_nothing(sandbox: Sandbox, tests: str) -> None:
    """Tests without a question are no tests: nothing may pass them."""
    with pytest.raises(DataError, match="ask nothing"):
        oracle_of(problem(tests, "def f(): return 1"), sandbox)


def test_inputs_without_an_answer(sandbox: Sandbox) -> None:
    """Inputs to which the problem's own solution has no answer make no oracle."""
    made = Problem("made/1", "f", "inputs", solution="def f(x): return 1 // x", inputs=[[1], [0]])
    with pytest.raises(DataError, match=r"no answer to \[0\]: raised ZeroDivisionError"):
        oracle_of(made, sandbox)


def test_floats_of_evalplus(sandbox: Sandbox) -> None:
    """Answers that are floats may be off by 1e-6, as EvalPlus has it; others not at all."""
    floats = oracle_of(Problem("m", "f", "inputs", solution="def f(x): return x / 3", inputs=[[1.0]]), sandbox)
    assert floats.judge(sandbox, "def f(x): return x / 3 + 9e-7").status is Status.PASSED
    assert floats.judge(sandbox, "def f(x): return x / 3 + 2e-6").status is Status.WRONG
    whole = oracle_of(Problem("m", "f", "inputs", solution="def f(x): return x", inputs=[[1]]), sandbox)
    assert whole.judge(sandbox, "def f(x): return x + 9e-7").status is Status.WRONG


def test_any_root_is_right(sandbox: Sandbox, rows: dict[str, dict[str, Any]]) -> None:
    """HumanEval/32 in EvalPlus's own file takes any root of the polynomial, not the solution's alone."""
    starter = 'def find_zero(xs):\n    """A root."""\n'
    row = {"task_id": "HumanEval/32", "entry_point": "find_zero", "prompt": starter, "canonical_solution": "    return 1.0\n"}
    made = problem_in({**row, "base_input": [[[-1, 0, 1]]], "plus_input": [], "atol": 0.0001})
    oracle = oracle_of(made, sandbox)
    found = [oracle.judge(sandbox, f"def find_zero(xs): return {root}").status for root in (1.0, -1.0, -1.00001, 0.5)]
    assert found == [Status.PASSED, Status.PASSED, Status.PASSED, Status.WRONG]


def test_large_floats_of_evalplus(sandbox: Sandbox) -> None:
    """A float may also be off by 1e-7 of itself, as EvalPlus has it."""
    oracle = oracle_of(Problem("m", "f", "inputs", solution="def f(x): return x", inputs=[[1e9]]), sandbox)
    assert oracle.judge(sandbox, "def f(x): return x + 99").status is Status.PASSED
    assert oracle.judge(sandbox, "def f(x): return x + 101").status is Status.WRONG


def test_long_tests(sandbox: Sandbox) -> None:
    """Tests may be much longer than any answer: those of HumanEval+ reach megabytes."""
    numbers = list(range(100_000))
    made = problem(f"for x in {numbers}:\n    assert x == x\nassert f(7) == 8", "def f(x): return x + 1")
    assert oracle_of(made, sandbox).judge(sandbox, "def f(x): return x + 1").status is Status.PASSED
