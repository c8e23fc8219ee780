"""A program out of pieces: the code that a problem gives, and the code of the answer."""

from __future__ import annotations

import ast
import builtins
import textwrap
from collections.abc import Iterator, Sequence

from dpoframe_code.extraction.source import bound, defined, does_something, lines_of, read_names, span, tree_of

_INDENT = "    "


def answers(program: str, name: str) -> bool:
    """Whether a program is Python, and defines `name` as more than a signature."""
    statement = _definition(tree_of(program), name)
    return statement is not None and does_something(statement)


def continued(starter: str, code: str) -> Iterator[str]:
    """Programs in which `code` is the rest of the starter's last function, from the most literal reading on.

    Chat templates and tokenizers take the first line's indentation, and fences the indentation of all lines.
    """
    if not starter.endswith("\n"):
        yield starter + code
        starter += "\n"
    yield starter + code
    for mended in (_INDENT + code.lstrip(), textwrap.indent(textwrap.dedent(code), _INDENT)):
        if _is_one_body(starter, mended):
            yield starter + mended


def _is_one_body(starter: str, code: str) -> bool:
    """Whether the code goes into the starter's last function as a whole, with nothing left over behind it."""
    tree, before = tree_of(starter + code), tree_of(starter + _INDENT + "pass\n")
    return tree is not None and before is not None and len(tree.body) == len(before.body)


def whole(starter: str, code: str, name: str, others: Sequence[str] = ()) -> str | None:
    """A program of an answer that defines `name` itself; None where it does not.

    The starter's imports and helpers go before it, so that an answer may leave them out; what tries it out (calls, prints,
    asserts) is left out; functions that it needs and other blocks of the answer define are added.
    """
    tree = tree_of(code)
    if tree is None:
        return None
    if _definition(tree, name) is None:
        code = _method(code, tree, name)
        tree = tree_of(code)
    if tree is None or _definition(tree, name) is None:
        return None
    code = _without_trials(code, tree, name)
    needed = _needed(code, others)
    return _after_futures("\n\n".join([*preamble(starter, name), *needed]), code)


def _definition(tree: ast.Module | None, name: str) -> ast.stmt | None:
    """What makes a name a function. A number is no function: a body may use the function's name for its result."""
    found = defined(tree).get(name) if tree is not None else None
    if isinstance(found, ast.Assign) and not isinstance(found.value, ast.Lambda | ast.Name | ast.Attribute):
        return None
    return found


def preamble(starter: str, name: str) -> list[str]:
    """What the starter defines besides `name`."""
    tree = tree_of(starter)
    body = tree.body if tree is not None else []
    return [lines_of(starter, one) for one in body if bound(one) and name not in bound(one)]


def _method(code: str, tree: ast.Module, name: str) -> str:
    """`class Solution` with the function as its method, made callable by the function's name."""
    for one in tree.body:
        if isinstance(one, ast.ClassDef) and any(isinstance(each, ast.FunctionDef) and each.name == name for each in one.body):
            return f"{code}\n\n{name} = {one.name}().{name}\n"
    return code


def _without_trials(code: str, tree: ast.Module, name: str) -> str:
    """The code without what only tries it out: it defines nothing that is needed, and may fail where the code is right."""
    lines, taken = code.split("\n"), [span(one) for one in tree.body]
    before, after = [0, *(last for _, last in taken)], [*(first for first, _ in taken[1:]), len(lines)]
    for one, (first, last), end, begin in zip(tree.body, taken, before, after, strict=False):
        # A line may hold several statements.
        if end <= first and last <= begin and _tries(one, name):
            lines[first:last] = [""] * (last - first)
    return "\n".join(lines)


def _tries(statement: ast.stmt, name: str) -> bool:
    """Whether a top-level statement defines nothing and calls the function, prints, or asserts."""
    if isinstance(statement, ast.Assert):
        return True
    if isinstance(statement, ast.Assign):
        return isinstance(statement.value, ast.Call) and name in read_names(statement.value.func)
    if not isinstance(statement, ast.Expr | ast.If | ast.For | ast.While | ast.With | ast.Try):
        return False
    defines = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
    if any(isinstance(one, defines) for one in ast.walk(statement)) and not _is_main(statement):
        return False
    return _is_main(statement) or bool(read_names(statement) & {name, "print", "doctest", "unittest"})


def _is_main(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__name__" in read_names(statement.test)


def _needed(code: str, others: Sequence[str]) -> list[str]:
    """Definitions of other blocks that the code reads and does not have."""
    sources = {
        name: lines_of(other, one)
        for other in others
        if (tree := tree_of(other)) is not None
        for name, one in defined(tree).items()
        if isinstance(one, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom)
    }
    found: dict[str, str] = {}
    missing = _missing(code)
    while sources and (more := [name for name in missing if name in sources and name not in found]):
        found |= {name: sources[name] for name in more}
        missing = {name for part in found.values() for name in _missing(part)}
    return list(dict.fromkeys(reversed(found.values())))


def _missing(code: str) -> set[str]:
    tree = tree_of(code)
    return read_names(tree) - defined(tree).keys() - vars(builtins).keys() if tree is not None else set()


def _after_futures(before: str, code: str) -> str:
    """Code with what goes before it, but for `from __future__`, which must come first."""
    tree = tree_of(code)
    futures = [one for one in (tree.body if tree else []) if isinstance(one, ast.ImportFrom) and one.module == "__future__"]
    if not before or not futures:
        return f"{before}\n\n{code}" if before else code
    lines, end = code.split("\n"), span(futures[-1])[1]
    return "\n".join([*lines[:end], before, "", *lines[end:]])
