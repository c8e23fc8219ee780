"""The layouts in which benchmarks are published, told apart by their columns."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from dpoframe_code.extraction.source import defined, does_something, parsed, tree_of
from dpoframe_code.problems.problem import Problem

Values = Mapping[str, Any]

_LONGEST_TESTS = 50_000_000


class BrokenError(ValueError):
    """A row that makes no problem: a stable code and the reason in words."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        super().__init__(reason)


def problem_in(values: Values) -> Problem:
    """The problem in a row of HumanEval, HumanEval+, MBPP (whole or sanitized) or MBPP+.

    Raises:
        BrokenError: The row is of none of these layouts, or its tests or its solution are broken.
    """
    for needed, read in _LAYOUTS:
        if all(values.get(name) is not None for name in needed):
            return _checked(read(values))
    known = "; ".join(", ".join(needed) for needed, _ in _LAYOUTS)
    there = ", ".join(map(str, values)) or "none"
    raise BrokenError("unknown-layout", f"The columns are {there}; a problem has one of these sets: {known}.")


def _humaneval(values: Values) -> Problem:
    """HumanEval (Chen et al. 2021, arXiv 2107.03374), and HumanEval+ in the columns of `evalplus/humanevalplus`."""
    name, starter = _text(values, "entry_point"), _text(values, "prompt")
    return Problem(
        id=_name(values, "HumanEval"),
        entry_point=name,
        kind="check",
        tests=_text(values, "test"),
        solution=_solution(values, starter, name),
        starter=starter,
    )


def _evalplus(values: Values) -> Problem:
    """HumanEval+ (Liu et al. 2023, arXiv 2305.01210) in EvalPlus's own file: inputs, whose answers are the solution's."""
    name, starter = _text(values, "entry_point"), _text(values, "prompt")
    if str(values.get("task_id", "")).lower().startswith("mbpp"):
        said = "EvalPlus's own file of MBPP+ holds arguments as JSON, which has no tuples, sets and complex numbers."
        raise BrokenError("lossy-inputs", f"{said} Use the data set evalplus/mbppplus, whose tests are Python.")
    inputs = [*_list(values, "base_input"), *_list(values, "plus_input")]
    if not inputs or not all(isinstance(one, list) for one in inputs):
        raise BrokenError("no-tests", "base_input and plus_input must hold lists of arguments, at least one.")
    made = Problem(
        id=_name(values, "HumanEval"),
        entry_point=name,
        kind="inputs",
        solution=_solution(values, starter, name),
        starter=starter,
        inputs=inputs,
        tolerance=float(values.get("atol") or 0.0),
    )
    return made if name != "find_zero" else _root_finding(made)


def _root_finding(problem: Problem) -> Problem:
    """HumanEval/32 asks for any root of a polynomial: an answer is right where it is one, whatever root the solution finds."""
    value = f"abs(sum(c * x ** n for n, c in enumerate(xs))) <= {problem.tolerance!r}"
    tests = f"def check(candidate):\n    for (xs,) in {problem.inputs!r}:\n        x = candidate(xs)\n        assert {value}\n"
    return replace(problem, kind="check", tests=tests, inputs=(), tolerance=0.0)


def _mbpp(values: Values) -> Problem:
    """MBPP (Austin et al. 2021, arXiv 2108.07732), whole or sanitized, and MBPP+ in the columns of `evalplus/mbppplus`."""
    shown = [line for line in _list(values, "test_list") if isinstance(line, str) and line.strip()]
    if not shown:
        raise BrokenError("no-tests", "test_list holds no test.")
    solution = _plain_lines(_text(values, "code"))
    setup = "\n".join([*map(str, _list(values, "test_imports")), str(values.get("test_setup_code") or "")])
    hidden = values.get("test") if isinstance(values.get("test"), str) and values["test"].strip() else "\n".join(shown)
    text = values.get("text") or values.get("prompt")
    if not isinstance(text, str) or not text.strip():
        raise BrokenError("no-text", "There is neither a `text` nor a `prompt` that says what to write.")
    return Problem(
        id=_name(values, "MBPP"),
        entry_point=_asked_function(solution, shown),
        kind="asserts",
        tests=_plain_lines(f"{setup}\n{hidden}").strip("\n"),
        solution=solution,
        text=_plain_lines(text).strip(),
        shown=tuple(_plain_lines(line).strip() for line in shown),
    )


_LAYOUTS: tuple[tuple[tuple[str, ...], Callable[[Values], Problem]], ...] = (
    (("entry_point", "prompt", "canonical_solution", "base_input"), _evalplus),
    (("entry_point", "prompt", "test"), _humaneval),
    (("test_list", "code"), _mbpp),
)


def _checked(problem: Problem) -> Problem:
    """The problem, whose tests and solution are at least Python and name the same function."""
    name = problem.entry_point
    if not name.isidentifier():
        raise BrokenError("no-entry-point", f"The entry point is {name!r:.60}, which is no name of a function.")
    tests = tests_of(problem)
    if tests is None:
        raise BrokenError("broken-tests", "The tests are no Python.")
    if problem.kind == "check" and "check" not in defined(tests):
        raise BrokenError("broken-tests", "The tests define no check(candidate).")
    if problem.starter and tree_of(problem.starter + "    pass\n") is None:
        raise BrokenError("broken-prompt", "The prompt is no Python, even with a body.")
    if problem.solution or problem.kind == "inputs":
        solution = tree_of(problem.solution)
        if solution is None:
            raise BrokenError("broken-solution", "The solution is no Python.")
        found = defined(solution).get(name)
        if found is None or not does_something(found):
            raise BrokenError("broken-solution", f"The solution defines no {name}.")
    return problem


def tests_of(problem: Problem) -> ast.Module | None:
    """The tests, to be changed at will; None where they are no Python. They may be far longer than any answer."""
    return parsed(problem.tests, _LONGEST_TESTS)[0]


def _solution(values: Values, starter: str, name: str) -> str:
    """A solution as a whole program; published are both the rest of the prompt and whole functions."""
    given = values.get("canonical_solution")
    if not isinstance(given, str) or not given.strip():
        return ""
    tree = tree_of(given)
    return given if tree is not None and name in defined(tree) else starter + given


def _asked_function(solution: str, shown: Iterable[str]) -> str:
    """The function that the tests call: of those that the solution defines, the one that the first test names first."""
    tree = tree_of(solution)
    if tree is None:
        raise BrokenError("broken-solution", "The solution (`code`) is no Python.")
    known = defined(tree)
    for line in shown:
        test = tree_of(_plain_lines(line).strip())
        for node in ast.walk(test) if test is not None else ():
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if isinstance(known.get(name), ast.FunctionDef):
                return name
    raise BrokenError("no-entry-point", "The tests call no function that the solution defines.")


def _name(values: Values, benchmark: str) -> str:
    name = values.get("task_id", values.get("id"))
    if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
        raise BrokenError("no-id", f"task_id is {name!r:.60}, but should be a number or a name.")
    return str(name) if "/" in str(name) else f"{benchmark}/{name}"


def _text(values: Values, key: str) -> str:
    text = values.get(key)
    if not isinstance(text, str) or not text.strip():
        raise BrokenError(f"no-{key.replace('_', '-')}", f"{key} is {text!r:.60}, but should be text.")
    return text


def _list(values: Values, key: str) -> list[Any]:
    given = values.get(key)
    if given is None:
        return []
    if not isinstance(given, list | tuple):
        raise BrokenError("no-tests", f"{key} is {given!r:.60}, but should be a list.")
    return list(given)


def _plain_lines(text: str) -> str:
    """Plain line ends: MBPP's are those of Windows."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
