"""Cases out of assert statements, without running any of them."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from dpoframe_code.oracle.case import Case
from dpoframe_code.sandbox import Call

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_MOST = 10_000


class _NotPlainError(Exception):
    """An expression, or a statement, that is more than a case."""


def extracted(statements: Sequence[ast.stmt], name: str, function: str | None = None) -> list[Case] | None:
    """The cases that assert statements consist of; None where a statement is anything else.

    Understood are `f(..) == x`, `x == f(..)`, `f(..) is None`, and `abs(f(..) - x) < t`, with arguments and
    answers that are literals or sums, differences, products and quotients of numbers. Docstrings, `pass`, and asserts of
    constants that are true are passed over.

    Args:
        statements: The tests.
        name: What the tests call the function.
        function: What the program calls it; None where that is the same.
    """
    try:
        found = [_case(each, name, function or name) for each in statements if not _says_nothing(each)]
    except (_NotPlainError, ArithmeticError, RecursionError):
        return None
    return found or None


def _says_nothing(statement: ast.stmt) -> bool:
    test = statement.test if isinstance(statement, ast.Assert) else None
    docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return docstring or isinstance(statement, ast.Pass) or (isinstance(test, ast.Constant) and bool(test.value))


def _case(statement: ast.stmt, name: str, function: str) -> Case:
    if not isinstance(statement, ast.Assert) or not isinstance(statement.test, ast.Compare) or len(statement.test.ops) != 1:
        raise _NotPlainError
    left, how, right = statement.test.left, statement.test.ops[0], statement.test.comparators[0]
    if isinstance(how, (ast.Lt, ast.LtE)):
        return _near(left, isinstance(how, ast.Lt), right, name, function)
    if not _is_call(left, name):
        left, right = right, left
    # Plain data has one None; `is True` would also tell True from 1, which == does not.
    if isinstance(how, ast.Eq) or (isinstance(how, ast.Is) and isinstance(right, ast.Constant) and right.value is None):
        return Case(_call(left, name, function), constant(right))
    raise _NotPlainError


def _near(left: ast.expr, strict: bool, right: ast.expr, name: str, function: str) -> Case:
    """`abs(f(..) - x) < t`. A tolerance includes itself: for `<` it is the next smaller number."""
    if not isinstance(left, ast.Call) or ast.unparse(left.func) not in ("abs", "math.fabs") or len(left.args) != 1:
        raise _NotPlainError
    difference = left.args[0]
    if not isinstance(difference, ast.BinOp) or not isinstance(difference.op, ast.Sub):
        raise _NotPlainError
    minuend, subtrahend = difference.left, difference.right
    if not _is_call(minuend, name):
        minuend, subtrahend = subtrahend, minuend
    tolerance, expected = constant(right), constant(subtrahend)
    if not isinstance(tolerance, float) or isinstance(expected, bool) or not isinstance(expected, (int, float)):
        raise _NotPlainError
    return Case(_call(minuend, name, function), expected, math.nextafter(tolerance, 0.0) if strict else tolerance)


def _is_call(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def _call(node: ast.expr, name: str, function: str) -> Call:
    if not isinstance(node, ast.Call) or not _is_call(node, name):
        raise _NotPlainError
    if any(keyword.arg is None for keyword in node.keywords):
        raise _NotPlainError
    return Call(function, tuple(map(constant, node.args)), {str(each.arg): constant(each.value) for each in node.keywords})


def constant(node: ast.expr) -> Any:
    """The value of an expression of literals."""
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        left, right = constant(node.left), constant(node.right)
        if isinstance(left, (int, float, complex)) and isinstance(right, (int, float, complex)):
            return _ARITHMETIC[type(node.op)](left, right)
        return _repeated(left, right, node.op)
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
        return kind([constant(each) for each in node.elts])
    if isinstance(node, ast.Dict):
        return {constant(key): constant(value) for key, value in _items(node)}
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise _NotPlainError from None


def _items(node: ast.Dict) -> list[tuple[ast.expr, ast.expr]]:
    if None in node.keys:
        raise _NotPlainError
    return [(key, value) for key, value in zip(node.keys, node.values, strict=True) if key is not None]


def _repeated(left: Any, right: Any, how: ast.operator) -> Any:
    """`"a" * 10` and `"a" + "b"`, where that stays small."""
    if isinstance(how, ast.Mult) and isinstance(left, (str, list)) and isinstance(right, int) and len(left) * right <= _MOST:
        return left * right
    if isinstance(how, ast.Add) and type(left) is type(right) and type(left) in (str, list):
        return left + right
    raise _NotPlainError
