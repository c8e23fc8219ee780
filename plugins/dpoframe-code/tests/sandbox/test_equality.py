"""When an answer is the expected one."""

from __future__ import annotations

import math
from collections import deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from dpoframe_code.sandbox import equal
from hypothesis import given
from hypothesis import strategies as st

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(max_size=2), inner)
    ),
    max_leaves=8,
)


@given(VALUES, VALUES)
def test_without_tolerance_it_is_pythons_own(answer: Any, expected: Any) -> None:
    """On plain data without NaN the verdict is that of `==`."""
    assert equal(answer, expected) is (answer == expected)
    assert equal(answer, answer)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        *((1, 1.0), (True, 1), ([1], [1.0]), ({1: (2,)}, {1: (2,)}), ({1, 2}, {2, 1}), (deque([1]), deque([1]))),
        *((math.nan, math.nan), ([math.nan], [math.nan]), ({"a": (math.nan,)}, {"a": (math.nan,)}), (Fraction(1, 2), 0.5)),
        *((Decimal("1.0"), 1), (range(3), range(0, 3))),
    ],
)
def test_equal(answer: Any, expected: Any) -> None:
    """What Python calls equal, and NaN with NaN."""
    assert equal(answer, expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        *(([1], (1,)), ((1,), [1]), ("1", 1), (None, False), ([], None), ([1], [1, 2]), ({1: 2}, {1: 2, 3: 4}), ("", b"")),
        *((math.nan, 1.0), (1.0, math.nan), ([1, 2], {1, 2}), (deque([1]), [1]), (range(3), [0, 1, 2]), ({"a": 1}, [("a", 1)])),
        *((Decimal("sNaN"), 1), (Decimal("sNaN"), Decimal("sNaN")), (0.1 + 0.2, 0.3), (math.inf, -math.inf)),
    ],
)
def test_not_equal(answer: Any, expected: Any) -> None:
    """Kinds of containers, missing members and near numbers are told apart without a tolerance."""
    assert not equal(answer, expected)


def test_tolerance_reaches_into_containers() -> None:
    """A tolerance is absolute, includes itself, and holds for numbers in lists, tuples and values of dicts, and no further."""
    assert equal(0.5, 0.25, 0.25)
    assert not equal(0.5, 0.24999, 0.25)
    assert equal([1.0, (2.0, {"a": 3.0})], [1.1, (1.9, {"a": 3.05})], 0.11)
    assert not equal([1.0, (2.0, {"a": 3.0})], [1.1, (1.9, {"a": 3.2})], 0.11)
    assert not equal({1.0}, {1.05}, 0.1)
    assert not equal("a", "b", 10.0)
    assert not equal(True, 1.05, 0.1)
    assert equal(1 + 1j, 1 + 1.05j, 0.1)
    assert equal(math.inf, math.inf, 0.1)
    assert not equal(10**400, 1.5, 0.1)
    assert not equal(math.nan, 1.0, 10.0)
