"""A problem's tests as an oracle that stays outside the sandbox."""

from __future__ import annotations

import ast
import builtins
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dpoframe import DataError
from dpoframe_code.extraction.source import bound, defined, tree_of
from dpoframe_code.oracle import Case, Cases, Script, extracted, humaneval_oracle
from dpoframe_code.problems.layouts import tests_of
from dpoframe_code.problems.numbers import NUMPY
from dpoframe_code.problems.problem import Problem
from dpoframe_code.sandbox import Call, Limits, Outcome, Sandbox, Status

_RUN = "_run_the_tests"
_PROBE = "_asked_"
_FLOATS_OFF = 1e-6
"""By how much EvalPlus lets floats be off where a problem names no tolerance."""
_RELATIVE = 1e-7


class Oracle(Protocol):
    """Judges programs."""

    def judge(self, sandbox: Sandbox, program: str, limits: Limits | None = None) -> Outcome:
        """What the tests say of a program."""


@dataclass(frozen=True)
class Extended:
    """An oracle that asks for functions of its own, which are added to the program.

    They make arguments that only the program can make, such as an instance of its own class. The right answers stay outside.
    """

    inner: Cases | Script
    addition: str

    def judge(self, sandbox: Sandbox, program: str, limits: Limits | None = None) -> Outcome:
        """As for the inner oracle."""
        return self.inner.judge(sandbox, f"{program}\n\n{self.addition}\n", limits)


def oracle_of(problem: Problem, sandbox: Sandbox, limits: Limits | None = None) -> Oracle:
    """The oracle of a problem.

    Args:
        problem: Whose tests.
        sandbox: Where a solution is run to learn the right answers, for problems that have inputs alone.
        limits: Of that run.

    Raises:
        DataError: The tests cannot be made into one.
    """
    if problem.kind == "inputs":
        return _answered(problem, sandbox, limits)
    if problem.kind == "check":
        tests = ast.unparse(_without_numpy(_tree(problem)))
        return humaneval_oracle(
            {"task_id": problem.id, "entry_point": problem.entry_point, "prompt": problem.starter, "test": tests}
        )
    return _asserted(problem)


def _answered(problem: Problem, sandbox: Sandbox, limits: Limits | None) -> Cases:
    """Cases whose right answers are those of the problem's own solution."""
    calls = [Call(problem.entry_point, arguments) for arguments in problem.inputs]
    found = sandbox.run(problem.solution, calls, limits)
    for call, outcome in zip(calls, found, strict=True):
        if outcome.status is not Status.RETURNED:
            raise DataError(f"{problem.id}: its own solution has no answer to {call.args!r:.80}: {outcome.status} {outcome.error}")
    return Cases([Case(call, one.value, _tolerance(problem, one.value)) for call, one in zip(calls, found, strict=True)])


def _tolerance(problem: Problem, value: Any) -> float:
    """As EvalPlus: the problem's own, else a small one where the answer is a float or holds nothing but floats.

    The relative part, 1e-7, is left out for lists, of which it would be another for each number.
    """
    floats = isinstance(value, float) or (
        isinstance(value, list | tuple) and value and all(isinstance(one, float) for one in value)
    )
    absolute = problem.tolerance or (_FLOATS_OFF if floats else 0.0)
    relative = _RELATIVE * abs(value) if isinstance(value, float) and math.isfinite(value) else 0.0
    return absolute + relative if absolute else 0.0


def _asserted(problem: Problem) -> Oracle:
    """An oracle of statements that call the function by its name: cases where all are plain, else a script."""
    split = _Split.of(_without_numpy(_tree(problem)), problem)
    imports = all(isinstance(one, ast.Import | ast.ImportFrom) for one in split.outside)
    cases = _cases(split.body, [problem.entry_point, *split.probes]) if imports else None
    inner: Cases | Script
    if cases:
        inner = Cases(cases)
    elif not split.body:
        raise DataError(f"{problem.id}: its tests ask nothing.")
    else:
        run = ast.FunctionDef(_RUN, ast.arguments([], [], None, [], [], None, []), split.body, [], lineno=1)
        source = ast.unparse(ast.fix_missing_locations(ast.Module([*split.outside, run], [])))
        inner = Script(source, _RUN, [problem.entry_point, *split.probes])
    return Extended(inner, "\n\n".join([*map(ast.unparse, split.inside), *split.probes.values()])) if split.probes else inner


def _cases(body: Sequence[ast.stmt], names: Sequence[str]) -> list[Case] | None:
    """One case a statement; None where one of them is more than that."""
    found: list[Case] = []
    for statement in body:
        cases = next((cases for name in names if (cases := extracted([statement], name))), None)
        if cases is None:
            return None
        found += cases
    return found


@dataclass
class _Split:
    """The tests, parted by where they run.

    Attributes:
        outside: Imports, helpers and data of the tester.
        body: What asks and compares, in the tester.
        inside: What makes arguments of the program's own classes, in the program.
        probes: Functions to be added to the program, by name.
    """

    outside: list[ast.stmt] = field(default_factory=list)
    body: list[ast.stmt] = field(default_factory=list)
    inside: list[ast.stmt] = field(default_factory=list)
    probes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, tests: ast.Module, problem: Problem) -> _Split:
        """Parts the statements."""
        split = cls()
        solution = tree_of(problem.solution)
        # Published tests were run in the solution's own namespace, and use what it imports.
        split.outside = [one for one in (solution.body if solution else []) if isinstance(one, ast.Import | ast.ImportFrom)]
        own = set(defined(solution)) - {problem.entry_point} if solution is not None else set()
        # A helper that the tests bring themselves is the tester's, whatever the solution calls its own; so are builtins.
        own -= {name for one in [*split.outside, *tests.body] for name in bound(one)} | vars(builtins).keys()
        for one in tests.body:
            asks = problem.entry_point in _names(one)
            if asks and not isinstance(one, ast.FunctionDef | ast.ClassDef):
                split.body.append(_Probing(problem.entry_point, own, split.probes).visit(one))
            elif _names(one) & own and not isinstance(one, ast.FunctionDef | ast.ClassDef):
                split.inside.append(one)
                own |= {*bound(one)}
            elif isinstance(one, ast.Assert | ast.For | ast.While | ast.If):
                split.body.append(one)
            else:
                split.outside.append(one)
        return split


class _Probing(ast.NodeTransformer):
    """Puts a call without arguments in the place of each call whose arguments only the program can make."""

    def __init__(self, name: str, own: set[str], probes: dict[str, str]) -> None:
        self.name, self.own, self.probes = name, own, probes

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """One call."""
        asks = isinstance(node.func, ast.Name) and node.func.id == self.name
        if asks and (_names(node) & self.own or _hands_over_types(node)):
            probe = f"{_PROBE}{len(self.probes)}"
            self.probes[probe] = f"def {probe}():\n    return {ast.unparse(node)}"
            return ast.copy_location(ast.Call(ast.Name(probe, ast.Load()), [], []), node)
        return self.generic_visit(node)


def _hands_over_types(node: ast.Call) -> bool:
    """Whether an argument is a builtin type, such as `int`, which is no plain data."""
    given = [one.id for one in node.args if isinstance(one, ast.Name)]
    return any(isinstance(getattr(builtins, name, None), type) for name in given)


def _names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _tree(problem: Problem) -> ast.Module:
    """The tests, to be changed at will."""
    tree = tests_of(problem)
    if tree is None:
        raise DataError(f"{problem.id}: its tests are no Python.")
    return tree


def _without_numpy(tests: ast.Module) -> ast.Module:
    """Tests in which numpy is replaced by what they use of it."""
    body: list[ast.stmt] = []
    for one in tests.body:
        names = {each.name: each.asname or each.name for each in one.names} if isinstance(one, ast.Import) else {}
        body += ast.parse(NUMPY.format(name=names["numpy"])).body if "numpy" in names else [one]
    tests.body = body
    return tests
