"""Whether an answer is the expected one."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

_ORDERED = (list, tuple, deque)


def equal(answer: Any, expected: Any, tolerance: float = 0.0) -> bool:
    """Python's `==` on plain data, with two differences: NaN equals NaN, and numbers may differ by `tolerance`.

    As for `==`, `1 == 1.0 == True` and a list is no tuple. The tolerance is absolute and holds for numbers anywhere in lists,
    tuples, deques and values of dicts; members of sets and keys of dicts are compared exactly.

    Args:
        answer: What came from the sandbox: exact builtins.
        expected: What the tester knows.
        tolerance: The largest absolute difference, itself included.
    """
    if isinstance(answer, _ORDERED) and isinstance(expected, _ORDERED):
        same_kind = isinstance(answer, type(expected)) or isinstance(expected, type(answer))
        pairs = zip(answer, expected, strict=False)
        return same_kind and len(answer) == len(expected) and all(equal(a, e, tolerance) for a, e in pairs)
    if isinstance(answer, dict) and isinstance(expected, dict):
        return answer.keys() == expected.keys() and all(equal(answer[key], expected[key], tolerance) for key in answer)
    if _is_nan(answer) and _is_nan(expected):
        return True
    near = tolerance > 0 and _is_number(answer) and _is_number(expected) and _near(answer, expected, tolerance)
    return near or _same(answer, expected)


def _same(answer: Any, expected: Any) -> bool:
    try:
        return bool(answer == expected)
    except ArithmeticError:  # a signalling NaN of Decimal
        return False


def _near(answer: Any, expected: Any, tolerance: float) -> bool:
    try:
        return bool(abs(answer - expected) <= tolerance)
    except (OverflowError, TypeError):  # a huge integer and a float; a Decimal and a float
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, complex)) and not isinstance(value, bool)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
