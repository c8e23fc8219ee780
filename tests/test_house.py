"""The measures of the house: short functions, short files, no grab-bags."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = [
    ROOT / "dpoframe",
    *(path.parent for path in (ROOT / "plugins").glob("*/dpoframe_*/__init__.py")),
    *(path.parent for path in (ROOT / "evals").glob("dpoframe_*/__init__.py")),
]
FILES = [path for package in PACKAGES for path in sorted(package.rglob("*.py")) if "__pycache__" not in path.parts]


def bodies() -> dict[str, int]:
    """Lines of each function's body without its docstring, by file and name."""
    found = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                found[f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"] = lines
    return found


def test_functions_are_short() -> None:
    """The median body has at most 8 lines, nine of ten at most 30, none more than 60."""
    lengths = bodies()
    assert {name: lines for name, lines in lengths.items() if lines > 60} == {}
    assert statistics.median(lengths.values()) <= 8
    assert sum(lines <= 30 for lines in lengths.values()) / len(lengths) >= 0.9


def test_files_are_short() -> None:
    """No file has 400 lines or more."""
    counts = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: lines for name, lines in counts.items() if lines >= 400} == {}


def test_no_grab_bags() -> None:
    """No module is called utils, and no class Manager or Helper: such names say nothing of what is inside."""
    for path in FILES:
        assert path.stem not in ("utils", "util", "helpers", "common", "misc"), path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                assert not node.name.endswith(("Manager", "Helper", "Utils")), f"{path}: {node.name}"
