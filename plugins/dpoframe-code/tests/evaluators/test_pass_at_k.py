"""pass@k: the estimator, the statuses, and what is refused or left unscored."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from dpoframe_code.evaluators import running
from dpoframe_code.evaluators.estimator import pass_at_k
from dpoframe_code.evaluators.example import EXAMPLES
from dpoframe_code.evaluators.pass_at_k import STATUSES, PassAtK
from dpoframe_code.extraction import Rule
from dpoframe_code.problems import Problem
from dpoframe_code.sandbox import Limits, Missing, Outcome, Probe, Sandbox, Status, Tier

from dpoframe import Available, Refused, Sample, Scored, UnscoredError
from dpoframe.testing import EvaluatorContract

PARITY = [(10, 3, 1, 0.3), (10, 3, 5, 0.916666666667), (20, 1, 10, 0.5)]


@pytest.mark.parametrize(("n", "c", "k", "value"), PARITY)
def test_published_values(n: int, c: int, k: int, value: float) -> None:
    """The estimator gives the values that are known of it."""
    assert pass_at_k(n, c, k) == pytest.approx(value, abs=1e-12)


def test_all_draws() -> None:
    """It is the share of all draws of k answers that hold one that passes, counted one by one."""
    for n, c, k in itertools.product(range(1, 7), range(7), range(1, 7)):
        if c <= n and k <= n:
            draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
            assert pass_at_k(n, c, k) == pytest.approx(float(Fraction(sum(map(any, draws)), len(draws))), abs=1e-15)


def test_many_answers() -> None:
    """With thousands of answers nothing overflows or loses its digits: one of n passes with chance k / n."""
    assert pass_at_k(100_000, 1, 1000) == pytest.approx(0.01, rel=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(5, 2, 6), (5, 6, 1), (5, -1, 1), (5, 2, 0), (0, 0, 1)])
def test_impossible_draws(n: int, c: int, k: int) -> None:
    """More draws than answers, or more passes than answers, are refused."""
    with pytest.raises(ValueError, match="answers"):
        pass_at_k(n, c, k)


class TestGreedy(EvaluatorContract):
    """The evaluator as it is keeps the contract."""

    evaluator = PassAtK()
    samples = EXAMPLES


class TestDrawn(EvaluatorContract):
    """So it does with sizes of draws."""

    evaluator = PassAtK(k=(1,))
    samples = EXAMPLES


SUM = Problem("made/1", "add", "asserts", tests="assert add(1, 2) == 3", solution="def add(a, b): return a + b", text="Add.")
BODIES = {
    Status.PASSED: "return a + b",
    Status.WRONG: "return a - b",
    Status.RAISED: "raise KeyError(a)",
    Status.TIMEOUT: "while True: pass",
    Status.DIED: "import os; os._exit(0)",
    Status.UNENCODABLE: "return object()",
}


def sample(code: str, problem: Problem = SUM, name: str = "made/1#0") -> Sample:
    """An answer in chat."""
    asked = [{"role": "user", "content": problem.text}]
    return Sample(name, asked, f"```python\n{code}\n```", meta={"problem": problem.plain()})


def scored(code: str, problem: Problem = SUM, **options: Any) -> dict[str, float]:
    """The score of an answer."""
    found = PassAtK(cpu_seconds=1, **options).score(sample(code, problem))
    assert found is not None
    return dict(found)


@pytest.mark.parametrize("status", BODIES)
def test_statuses(sandbox: Sandbox, status: Status) -> None:
    """Each way to end is a figure of its own, and exactly one of them is 1."""
    found = scored(f"def add(a, b):\n    {BODIES[status]}")
    assert {one for one in STATUSES if found[one.value]} == {status}
    assert found["compiles"] == 1
    assert found["rule"] == Rule.FENCED


def test_programs_that_do_not_load(sandbox: Sandbox) -> None:
    """A syntax error and an error at loading are `load_failed`; only the first does not compile."""
    syntax, loading = scored("def add(a, b:"), scored("import no_such_thing\ndef add(a, b): return 3")
    assert [(one["load_failed"], one["compiles"]) for one in (syntax, loading)] == [(1, 0), (1, 1)]


def test_answers_without_a_program(sandbox: Sandbox) -> None:
    """Prose fails like any wrong answer, does not compile, and is counted by its rule."""
    found = PassAtK().score(replace(sample(""), response="I would add them."))
    assert found is not None
    assert (found["passed"], found["compiles"], found["rule"]) == (0, 0, Rule.NOTHING)


def test_stops_are_the_suites(sandbox: Sandbox) -> None:
    """What ends a continuation can be chosen, and decides whether it passes."""
    problem = replace(SUM, starter='def add(a, b):\n    """The sum."""\n')
    answer = "    return plus(a, b)\n\ndef plus(a, b):\n    return a + b\n"
    given = Sample("made/1#0", problem.starter, answer, meta={"problem": problem.plain()})
    published, none = PassAtK().score(given), PassAtK(stops=()).score(given)
    assert published is not None
    assert none is not None
    assert (published["raised"], none["passed"]) == (1, 1)
    assert repr(PassAtK()) != repr(PassAtK(stops=()))


def test_tier_is_stored(sandbox: Sandbox) -> None:
    """Every score has the number of the locks it was made under."""
    assert scored("def add(a, b): return 3")["tier"] == list(Tier).index(sandbox.tier) + 1


def test_forgeries(sandbox: Sandbox) -> None:
    """Answers that pretend to be right pass nothing."""
    forged = [
        "class Any:\n    def __eq__(self, other): return True\ndef add(a, b): return Any()",
        "import sys\ndef add(a, b):\n    print('passed')\n    sys.exit(0)",
        "import builtins\nbuiltins.AssertionError = Exception\ndef add(a, b): return None",
    ]
    assert [scored(code)["passed"] for code in forged] == [0, 0, 0]


@pytest.mark.parametrize("tests", ["assert add(1, 2) == 4", "assert add(1, 2) == nothing", "assert add(1) == 1"])
def test_broken_tests_are_unscored(sandbox: Sandbox, tests: str) -> None:
    """Where the problem's own solution fails its tests, answers are unscored for good, also one that would pass."""
    broken = replace(SUM, tests=tests)
    for code in ("def add(a, b): return 4", "def add(a, b): return 0"):
        with pytest.raises(UnscoredError, match=r"^infra_error: the tests are broken") as raised:
            PassAtK().score(sample(code, broken))
        assert not raised.value.again
    assert PassAtK(check_solutions=False).score(sample("def add(a, b): return 4", replace(SUM, tests="assert add(1, 2) == 4")))


def test_tests_that_ask_nothing_are_unscored(sandbox: Sandbox) -> None:
    """Tests that cannot be made into an oracle leave every answer unscored, each time."""
    for _ in range(2):
        with pytest.raises(UnscoredError, match="infra_error: made/1: its tests ask nothing"):
            PassAtK().score(sample("def add(a, b): return 3", replace(SUM, tests="pass")))


def test_failing_sandbox_is_unscored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that fails says nothing of the answer: it is unscored, and asked about again in the next run."""

    class Failing:
        def run(self, program: str, calls: list[Any], limits: Limits) -> list[Outcome]:
            return [Outcome(Status.INFRA_ERROR, None, error="the zygote died")] * len(calls)

    monkeypatch.setattr(running, "sandbox", Failing)
    with pytest.raises(UnscoredError, match="infra_error: the zygote died") as raised:
        PassAtK().score(sample("def add(a, b): return 3", replace(SUM, tests="assert add(5, 6) == 11")))
    assert raised.value.again


def test_answers_that_tests_never_get_through_are_wrong(sandbox: Sandbox) -> None:
    """An answer on which the tests run out of time is the program's doing where they end on the solution's."""
    summed = replace(SUM, tests="assert sum(add(1, 2)) == 3", solution="def add(a, b): return [a, b]")
    evaluator = PassAtK(cpu_seconds=1)
    for said, status in (("range(10 ** 13)", "wrong"), ("[1, 2]", "passed"), ("[3, 3]", "wrong")):
        scores = evaluator.score(sample(f"def add(a, b): return {said}", summed))
        assert scores is not None
        assert scores[status] == 1.0
    # Tests that end on nobody's answers are broken.
    endless = replace(summed, tests="x = add(1, 2)\nwhile True: pass")
    for check in (True, False):
        with pytest.raises(UnscoredError, match="infra_error"):
            PassAtK(cpu_seconds=1, check_solutions=check).score(sample("def add(a, b): return [a, b]  # mine", endless))


def test_refuses_without_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no tier can be had the evaluator refuses, with what is missing and what mends it."""
    lack = Missing("Landlock", "not in this kernel (4.4)", "Use Linux 6.2 or newer.")
    monkeypatch.setattr(running, "probe", lambda: Probe(None, {Tier.NAMESPACES: [lack], Tier.LANDLOCK: [lack]}))
    running._probed.cache_clear()
    try:
        found = PassAtK().probe()
    finally:
        running._probed.cache_clear()
    assert isinstance(found, Refused)
    assert found.reason.count("Landlock: not in this kernel (4.4)") == 1
    assert found.fix == "Use Linux 6.2 or newer."


def test_available_with_one(sandbox: Sandbox) -> None:
    """Where a tier holds, it is available, and says which."""
    number = list(Tier).index(sandbox.tier) + 1
    assert PassAtK().probe() == Available(f"sandbox of tier {number}: {sandbox.tier}")


def test_says_what_the_stronger_tier_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the second tier, what the first lacks and what gets it are told."""
    lack = Missing("bubblewrap", "no bwrap on PATH", "Install it with: apt-get install bubblewrap")
    monkeypatch.setattr(running, "probe", lambda: Probe(Tier.LANDLOCK, {Tier.NAMESPACES: [lack]}))
    running._probed.cache_clear()
    try:
        found = PassAtK().probe()
    finally:
        running._probed.cache_clear()
    assert found == Available(
        "sandbox of tier 2: landlock+seccomp+rlimits; bubblewrap+landlock+seccomp+rlimits would need bubblewrap: no bwrap on "
        "PATH. Install it with: apt-get install bubblewrap"
    )


def verdicts(*problems: tuple[int, int]) -> list[Scored]:
    """Scores of problems with n answers of which c pass."""
    return [
        Scored(f"p{place}#{number}", f"p{place}", {"passed": float(number < c)})
        for place, (n, c) in enumerate(problems)
        for number in range(n)
    ]


def test_mean_over_problems() -> None:
    """pass@k is the mean over problems, not over answers, whatever their number."""
    found = PassAtK(k=(1, 5)).aggregate(verdicts((10, 3), (5, 5)))
    assert found == {"pass@1": pytest.approx((0.3 + 1) / 2), "pass@5": pytest.approx((0.916666666667 + 1) / 2)}


def test_too_few_answers_are_refused() -> None:
    """A draw larger than a problem's scored answers is refused, with the problem and what to do."""
    with pytest.raises(ValueError, match=r"pass@10 needs 10 scored answers a problem, and p1 has 9\. .*--set samples=10"):
        PassAtK(k=(1, 10)).aggregate(verdicts((10, 3), (9, 3)))


def test_greedy_is_another_figure() -> None:
    """The share of greedy answers and pass@1 of drawn ones have ids of their own, so that neither is taken for the other."""
    greedy, drawn = PassAtK(), PassAtK(k=(1,))
    assert (greedy.spec.id, greedy.spec.primary, dict(greedy.spec.aggregates)) == ("passed", "passed", {})
    assert (drawn.spec.id, drawn.spec.primary, list(drawn.spec.aggregates)) == ("pass_at_k", "pass@1", ["pass@1"])
    assert greedy.aggregate(verdicts((2, 1))) == {}


def test_sizes_are_checked() -> None:
    """A size that is named twice is refused."""
    with pytest.raises(ValueError, match="twice"):
        PassAtK(k=(1, 1))
