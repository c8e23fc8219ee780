"""Python source looked at, never run."""

from __future__ import annotations

import ast
import functools
import threading
import warnings

LONGEST = 50_000
"""Characters of the longest source that is parsed: what is longer is no answer to a problem, and Python's own parser takes
minutes for some sources that are four times as long."""

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_STATEMENTS = (ast.stmt, ast.ExceptHandler, ast.match_case)
_IDLE = (ast.Pass, ast.Import, ast.ImportFrom, *_SCOPES)

_parsing = threading.Lock()


@functools.lru_cache(maxsize=256)
def tree_of(source: str) -> ast.Module | None:
    """The syntax tree, which nobody may change; None where the source is no Python, or is too long or too deep."""
    return parsed(source)[0]


def parsed(source: str, longest: int = LONGEST) -> tuple[ast.Module | None, int]:
    """The syntax tree, or None and the line, from 1, at which the source stops being Python."""
    if len(source) > longest:
        return None, 1
    # Filters of warnings are the whole process's, and a filter that raises would make "\d" a syntax error.
    with _parsing, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source)
            stray = _stray_return(tree)
            return (tree, 0) if stray is None else (None, stray.lineno)
        except SyntaxError as error:
            return None, error.lineno or 1
        # NUL bytes, half characters, numbers of too many digits, too many brackets within brackets.
        except (ValueError, MemoryError, RecursionError, OverflowError):
            return None, 1


def _stray_return(tree: ast.Module) -> ast.Return | None:
    """A `return` outside of functions, which only the compiler would find: the sign of a body without its function."""
    left: list[ast.AST] = [tree]
    while left:
        one = left.pop()
        if isinstance(one, ast.Return):
            return one
        if not isinstance(one, _SCOPES):
            left += [each for each in ast.iter_child_nodes(one) if isinstance(each, _STATEMENTS)]
    return None


def defined(tree: ast.Module) -> dict[str, ast.stmt]:
    """What the source defines at its top: functions, classes and names, each with the last statement that does."""
    return {name: statement for statement in tree.body for name in bound(statement)}


def bound(statement: ast.stmt) -> list[str]:
    """The names that a top-level statement gives a value to; of `import a.b as c` it is c."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [(one.asname or one.name).partition(".")[0] for one in statement.names]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return [node.id for target in targets if target is not None for node in ast.walk(target) if isinstance(node, ast.Name)]


def read_names(node: ast.AST) -> set[str]:
    """Names that are read anywhere in a node."""
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}


def does_something(statement: ast.stmt) -> bool:
    """Whether a definition is more than a signature: a body of docstrings, `...`, imports and inner functions does nothing."""
    if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        return True
    return not all(isinstance(one, _IDLE) or _is_constant(one) for one in statement.body)


def _is_constant(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def lines_of(source: str, statement: ast.stmt) -> str:
    """A statement's own lines, decorators included."""
    first, last = span(statement)
    return "\n".join(source.split("\n")[first:last])


def span(statement: ast.stmt) -> tuple[int, int]:
    """A statement's lines as a slice, decorators included."""
    decorators = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(one.lineno for one in decorators)]) - 1, statement.end_lineno or statement.lineno
