"""Verdicts of cases and scripts, and HumanEval's own solutions."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dpoframe_code.oracle import Case, Cases, Script, humaneval_oracle
from dpoframe_code.sandbox import Call, Limits, Sandbox, Status, Tier, probe

from dpoframe import DataError

HUMANEVAL = Path(__file__).parents[4] / ".." / "shared" / "data" / "code" / "HumanEval.jsonl.gz"
QUICK = Limits(cpu_seconds=1)
SQUARES = Cases([Case(Call("f", (x,)), x * x) for x in (1, 2, 3)])


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A warm sandbox in the strongest tier of this machine."""
    if probe().tier is None:
        pytest.skip(str(probe()))
    with Sandbox() as made:
        yield made


@pytest.fixture(scope="module")
def problems() -> list[dict[str, Any]]:
    """HumanEval as published."""
    if not HUMANEVAL.is_file():
        pytest.skip(f"{HUMANEVAL.name} is not beside this checkout")
    return [json.loads(line) for line in gzip.decompress(HUMANEVAL.read_bytes()).splitlines()]


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("def f(x): return x * x", "passed"),
        ("def f(x): return x", "wrong"),
        ("def f(x): return 1 / (x - 2)", "raised"),
        ("def f(x):\n    while x == 2: pass\n    return x * x", "timeout"),
        ("import os\ndef f(x): return x * x if x < 3 else os._exit(0)", "died"),
        ("def f(x) return x", "load_failed"),
        ("", "raised"),
        ("def f(x): return iter([x])", "unencodable"),
    ],
)
def test_statuses_of_cases(program: str, status: str, sandbox: Sandbox) -> None:
    """Each way to fail has its own name; a wrong first answer is not hidden by what comes later."""
    assert SQUARES.judge(sandbox, program, QUICK).status == ("wrong" if "x - 2" in program else status)
    assert SQUARES.outcomes(sandbox, program, QUICK)[-1].status in {status, "wrong", "passed"}


def test_a_wrong_answer_is_told(sandbox: Sandbox) -> None:
    """The outcome says what was asked, what came and what was expected, even of answers that are hard to show."""
    assert SQUARES.judge(sandbox, "def f(x): return x + 1").error == "f(1) gave 2; 1 was expected"
    huge = SQUARES.judge(sandbox, "def f(x): return 10 ** 10000")
    assert (huge.status, huge.error) == (Status.WRONG, "f(1) gave <an integer of 33220 bits>; 1 was expected")


def script(body: str) -> Script:
    """A script oracle of one function."""
    return Script(f"def check():\n    {body}", "check", ["f"])


@pytest.mark.parametrize(
    ("body", "program", "status"),
    [
        ("assert f(3) == 9", "def f(x): return x * x", "passed"),
        ("assert f(f(2)) == 16", "def f(x): return x * x", "passed"),
        ("assert all(abs(f(x) - x ** 2) < 1e-9 for x in range(100))", "def f(x): return x * x", "passed"),
        ("return f", "def f(x): return x", "infra_error"),
        ("f(1)\n    return f", "def f(x): return x", "passed"),
        ("assert f(3) == 8", "def f(x): return x * x", "wrong"),
        ("assert len(f(3)) == 8", "def f(x): return x * x", "wrong"),
        ("assert f(3) == 9", "def f(x): raise KeyError(x)", "raised"),
        ("assert f(3) == 9", "def f(x):\n    while True: pass", "timeout"),
        ("assert f(3) == 9", "import os\ndef f(x): os._exit(0)", "died"),
        ("assert f(3) == 9", "def f(x): return f", "unencodable"),
        ("assert f(3) == 9", "def g(x): return 9", "raised"),
        ("assert f(3) == 9", "def f(", "load_failed"),
        # Tests that catch what the program raises decide by themselves.
        ("try: f(3)\n    except Exception: return\n    raise AssertionError", "def f(x): raise KeyError", "passed"),
        ("try: f(3)\n    except Exception: return\n    raise AssertionError", "def f(x): return 1", "wrong"),
        # Broken tests are nobody's failure.
        ("assert unknown == 1", "def f(x): return x", "infra_error"),
        ("pass", "def f(x): return x", "infra_error"),
        ("f(1)\n    while True: pass", "def f(x): return x", "infra_error"),
        ("import os; f(1); os._exit(0)", "def f(x): return x", "infra_error"),
        ("f(object())", "def f(x): return x", "infra_error"),
        ("this does not parse", "def f(x): return x", "infra_error"),
    ],
)
def test_statuses_of_scripts(body: str, program: str, status: str, sandbox: Sandbox) -> None:
    """A script passes, fails or is broken, and each shows as itself."""
    assert script(body).judge(sandbox, program, QUICK).status == status


def test_script_and_program_share_nothing(sandbox: Sandbox) -> None:
    """The program sees neither the script's modules nor its variables, and the script gets plain data, not the program's."""
    peeking = """
import sys, gc
def f(x): return [name for name in sys.modules if "marker" in name] + [each for each in gc.get_objects() if each == ["secret"]]
"""
    tests = """
import sys, types
sys.modules["marker"] = types.ModuleType("marker")
secret = ["sec" + "ret"]
def check():
    found = f([1])
    assert type(found) is list and found == [], found
    argument = [1]
    f(argument)
    assert argument == [1]
"""
    assert Script(tests, "check", ["f"]).judge(sandbox, peeking).status == "passed"


def test_a_program_does_not_pay_for_the_time_of_its_tests(sandbox: Sandbox) -> None:
    """The clock of each of the two runs only while it is waited for: neither sleeps away the other's time."""
    program = "import time\ndef f(x):\n    time.sleep(.3)\n    return x"
    body = "import time\n    for x in range(3):\n        time.sleep(.3)\n        assert f(x) == x"
    assert script(body).judge(sandbox, program, Limits(cpu_seconds=2, wall_seconds=1.5)).status == "passed"
    assert script(body).judge(sandbox, program, Limits(cpu_seconds=2, wall_seconds=0.6)).status in {"timeout", "infra_error"}


def test_humaneval_is_mostly_cases(problems: list[dict[str, Any]]) -> None:
    """Tests that only compare are run as cases; those with loops, helpers or conversions stay scripts, and none is lost."""
    kinds = Counter(type(humaneval_oracle(problem)).__name__ for problem in problems)
    assert kinds == {"Cases": 149, "Script": 15}


def test_cases_of_humaneval_are_those_of_its_tests(problems: list[dict[str, Any]]) -> None:
    """As many cases as the tests have asserts that call the candidate, counted in their text."""
    for problem in problems:
        oracle = humaneval_oracle(problem)
        if isinstance(oracle, Cases):
            lines = [line.split("#")[0] for line in problem["test"].splitlines()]
            asserts = sum(line.strip().startswith("assert") and "candidate(" in line for line in lines)
            assert len(oracle.cases) == asserts, problem["task_id"]


@pytest.mark.parametrize("tier", Tier, ids=lambda tier: tier.name.lower())
def test_humanevals_own_solutions_pass(tier: Tier, problems: list[dict[str, Any]]) -> None:
    """All 164 canonical solutions pass; the same programs without their last line, or with `pass`, do not."""
    if probe(tier).tier is None:
        pytest.skip(str(probe(tier)))
    with Sandbox(tier=tier) as made:

        def judged(job: tuple[dict[str, Any], str]) -> str:
            problem, body = job
            outcome = humaneval_oracle(problem).judge(made, problem["prompt"] + body)
            assert outcome.tier is tier
            return outcome.status

        right = list(made.map(judged, [(problem, problem["canonical_solution"]) for problem in problems]))
        empty = list(made.map(judged, [(problem, "    pass\n") for problem in problems]))
    assert Counter(right) == {"passed": 164}
    assert set(empty) <= {"wrong", "raised"}


@pytest.mark.parametrize("model", ["gpt-4", "gpt-3.5-turbo", "text-davinci-003"])
def test_verdicts_are_those_of_the_plain_harness(model: str, problems: list[dict[str, Any]], sandbox: Sandbox) -> None:
    """On stored programs of a model, each verdict is that of running program and tests together, as the paper's harness does."""
    file = HUMANEVAL.parent / "reflexion" / f"humaneval_{model}.jsonl"
    if not file.is_file():
        pytest.skip(f"{file.name} is not beside this checkout")
    by_name = {problem["entry_point"]: problem for problem in problems}
    stored = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]

    def both(row: dict[str, Any]) -> tuple[bool, bool]:
        problem = by_name[row["entry_point"]]
        program = f"{problem['prompt']}    pass\n\n{row['solution']}\n"
        together = f"{program}\n{problem['test']}\ncheck({row['entry_point']})\n"
        apart = humaneval_oracle(problem).judge(sandbox, program)
        return sandbox.load(together).status is Status.RETURNED, apart.status is Status.PASSED

    verdicts = Counter(sandbox.map(both, stored))
    assert set(verdicts) == {(True, True), (False, False)}
    assert verdicts.total() == 164


def test_tests_that_cannot_be_used_are_told() -> None:
    """Tests that do not parse, or check nothing, are a fault of the data, by the problem's name."""
    sound = {"task_id": "T/1", "entry_point": "f", "prompt": "def f(x):\n    '''Doc.'''\n", "test": "def check(candidate): pass"}
    for change in ({"test": "def check("}, {"test": "x = 1"}, {"prompt": "def f(x"}):
        with pytest.raises(DataError, match="T/1"):
            humaneval_oracle({**sound, **change})
    assert isinstance(humaneval_oracle(sound), Script)
