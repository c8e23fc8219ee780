"""Oracles of problems in HumanEval's layout (Chen et al. 2021, arXiv 2107.03374)."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from dpoframe import DataError
from dpoframe_code.oracle.case import Cases
from dpoframe_code.oracle.extraction import extracted
from dpoframe_code.oracle.script import Script

_RUN = "_run_the_tests"


def humaneval_oracle(problem: Mapping[str, Any]) -> Cases | Script:
    """The oracle of a problem with `prompt`, `entry_point`, and `test` that defines `check(candidate)`.

    Cases where the tests are plain assert statements; else the tests themselves, as a script that runs apart from the
    program, with the helpers that the prompt defines.

    Raises:
        DataError: The tests do not parse, or define no `check`.
    """
    name = problem["entry_point"]
    try:
        tests = ast.parse(problem["test"])
        prompt = ast.parse(problem["prompt"])
    except SyntaxError as error:
        raise DataError(f"{problem.get('task_id', name)}: prompt or tests do not parse: {error}.") from None
    check = next((each for each in tests.body if isinstance(each, ast.FunctionDef) and each.name == "check"), None)
    if check is None or len(check.args.args) != 1:
        raise DataError(f"{problem.get('task_id', name)}: its tests define no check(candidate).")
    cases = extracted(check.body, check.args.args[0].arg, name) if _plain(tests, check) else None
    return Cases(cases) if cases else Script(_script(prompt, problem["test"], name), _RUN, [name])


def _plain(tests: ast.Module, check: ast.FunctionDef) -> bool:
    """Whether nothing but `check` decides: imports and metadata beside it do no harm."""
    harmless = (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr)
    return all(each is check or isinstance(each, harmless) for each in tests.body)


def _script(prompt: ast.Module, tests: str, name: str) -> str:
    """Prompt without the function that is asked for, then the tests; `name` is what reaches the program."""
    prompt.body = [each for each in prompt.body if not (isinstance(each, ast.FunctionDef) and each.name == name)]
    return f"{ast.unparse(prompt)}\n\n{tests}\n\ndef {_RUN}():\n    check({name})\n"
