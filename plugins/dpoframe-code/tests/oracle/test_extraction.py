"""Cases out of assert statements: what is understood, and that nothing else is."""

from __future__ import annotations

import ast
import math
from typing import Any

import pytest
from dpoframe_code.oracle import Case, Cases, extracted
from dpoframe_code.sandbox import Call, equal

from dpoframe import DataError


def cases(source: str) -> list[Case] | None:
    """The cases of a few lines of tests."""
    return extracted(ast.parse(source).body, "candidate", "f")


@pytest.mark.parametrize(
    ("line", "args", "expected"),
    [
        ("assert candidate(1) == 2", (1,), 2),
        ("assert candidate() == 'a'", (), "a"),
        ("assert [1, -2] == candidate((1,), {'a': {1.5}})", ((1,), {"a": {1.5}}), [1, -2]),
        ("assert candidate([1, [2, None]]) is None, 'said so'", ([1, [2, None]],), None),
        ("assert candidate(2.0 / 3.0, -(1)) == 6.0 / 5.0", (2.0 / 3.0, -1), 1.2),
        ("assert candidate(2 - 3, 2 * 3 + 1) == True", (-1, 7), True),
        ("assert candidate('ab' * 3, 'a' + 'b', [0] * 2) == 1 + 2j", ("ababab", "ab", [0, 0]), 1 + 2j),
        ("assert candidate(b'x', set()) == ()", (b"x", set()), ()),
    ],
)
def test_equalities(line: str, args: tuple[Any, ...], expected: Any) -> None:
    """Calls with literals, compared with literals, become cases."""
    assert cases(line) == [Case(Call("f", args), expected)]


def test_keywords() -> None:
    """Keyword arguments stay keyword arguments."""
    assert cases("assert candidate(1, b=[2]) == 3") == [Case(Call("f", (1,), {"b": [2]}), 3)]


def test_tolerances() -> None:
    """`<` is strict and `<=` is not; the call may stand on either side of the difference."""
    lines = [
        "assert abs(candidate(1) - 0.5) < 0.25",
        "assert abs(candidate(1) - 0.5) <= 0.25",
        "assert math.fabs(2 - candidate(1)) < 1e-6",
    ]
    below, within, turned = cases("\n".join(lines)) or [None] * 3
    assert below is not None
    assert within is not None
    assert turned is not None
    assert not equal(0.75, below.expected, below.tolerance)
    assert equal(0.75, within.expected, within.tolerance)
    assert equal(math.nextafter(0.75, 0), below.expected, below.tolerance)
    assert (turned.expected, turned.call) == (2, Call("f", (1,)))


def test_what_says_nothing_is_passed_over() -> None:
    """Docstrings, `pass` and asserts of what is true anyway are no cases, and do not hinder."""
    assert cases("'text'\npass\nassert True, 'fine'\nassert candidate(1) == 1") == [Case(Call("f", (1,)), 1)]


@pytest.mark.parametrize(
    "source",
    [
        *(
            "",
            "pass",
            "assert True",
            "assert False",
            "x = 1\nassert candidate(x) == 1",
            "for _ in range(3): assert candidate(1) == 1",
        ),
        *("assert candidate(1)", "assert not candidate(1)", "assert candidate(1) != 2", "assert candidate(1) in [1]"),
        *("assert candidate(1) is True", "assert candidate(1) < 3", "assert 1 == candidate(1) == 1", "assert other(1) == 1"),
        *("assert tuple(candidate(1)) == (1,)", "assert candidate(candidate(1)) == 1", "assert candidate(x) == 1"),
        *("assert candidate(*[1]) == 1", "assert candidate(**{'a': 1}) == 1", "assert candidate({**{}}) == 1"),
        *("assert candidate(1) == len([1])", "assert candidate('a' * 10 ** 9) == 1", "assert candidate('a' * 999999) == 1"),
        *("assert abs(candidate(1) + 1) < 1e-6", "assert abs(candidate(1)) < 1e-6", "assert abs(candidate(1) - 'a') < 1e-6"),
        *("assert abs(candidate(1) - 1) < 1", "assert candidate(f'{1}') == 1", "assert candidate([x for x in [1]]) == 1"),
        *("assert candidate.f(1) == 1", "assert candidate(1 / 0) == 1", "assert candidate(1) == 1 or True"),
    ],
)
def test_what_is_more_than_cases_is_left(source: str) -> None:
    """Whatever is not understood as a whole is not taken in part: the tests must stay what they are."""
    assert cases(source) is None


def test_an_oracle_without_cases_is_refused() -> None:
    """No case would let every program pass."""
    with pytest.raises(DataError, match="without a case"):
        Cases([])
