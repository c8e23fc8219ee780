"""The public names of dpoframe are exactly those it lists, and each is documented."""

from __future__ import annotations

import ast
import inspect
import itertools
from pathlib import Path
from types import ModuleType

import pytest

import dpoframe
import dpoframe.plugins
import dpoframe.testing

PACKAGE = Path(dpoframe.__file__).parent
MODULES = [dpoframe, dpoframe.plugins, dpoframe.testing]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_all_is_literal_sorted_and_importable(module: ModuleType) -> None:
    """`__all__` is a literal list, sorted, without repetition, and every name in it can be had."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    found = [node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"]
    assert len(found) == 1
    names = ast.literal_eval(found[0])
    assert names == sorted(set(names))
    for name in names:
        assert getattr(module, name) is not None


def test_nothing_public_is_left_out() -> None:
    """A public name that the root imports from one of its modules, or loads on first use, is in `__all__`, and nothing else is."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("dpoframe")
        for alias in node.names
    }
    assert imported | set(dpoframe._LAZY) == set(dpoframe.__all__)


def test_names_that_load_on_first_use() -> None:
    """Such a name is the thing itself: a module, or what the module that it lives in calls so."""
    assert {"AnyJudge", "losses", "metrics", "RawRow", "read_rows", "is_inside", "emit", "say"} == set(dpoframe._LAZY)
    assert isinstance(dpoframe.losses, ModuleType)
    assert inspect.isfunction(dpoframe.read_rows)
    assert dpoframe.read_rows.__module__ == "dpoframe.data.raw"
    assert inspect.isclass(dpoframe.RawRow)


def test_unknown_names_are_attribute_errors() -> None:
    """A name that does not exist raises AttributeError, as from any module."""
    for module in (dpoframe, dpoframe.testing):
        with pytest.raises(AttributeError, match="no_such_name"):
            module.no_such_name  # noqa: B018 - the access is what is tested


def assigned_docstring(name: str) -> bool:
    """Whether a name assigned in one of the package's modules has a string right after it."""
    for path in PACKAGE.rglob("*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for node, after in itertools.pairwise(body):
            target = ast.unparse(node.target) if isinstance(node, ast.AnnAssign) else ""
            if target == name and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                return True
    return False


@pytest.mark.parametrize("name", [*dpoframe.__all__])
def test_public_names_are_documented(name: str) -> None:
    """Every public name has a docstring of its own, and so has every public method of a public class."""
    value = getattr(dpoframe, name)
    if name == "hookimpl":
        return  # pluggy's marker, described in docs/hooks.md
    if not (inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value)):
        assert assigned_docstring(name), f"{name} has no string after its assignment"
        return
    written = inspect.getdoc(value) or ""
    assert written, f"{name} has no docstring"
    assert not written.startswith(f"{name}("), f"{name} has only the docstring a dataclass makes"
    if inspect.isclass(value):
        public = {key: item for key, item in vars(value).items() if not key.startswith("_") and inspect.isroutine(item)}
        bare = [key for key, item in public.items() if not inspect.getdoc(item)]
        assert not bare, f"{name}: {', '.join(bare)} lack docstrings"
