"""The measures of the house: short functions, short files, no grab-bags."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = [
    ROOT / "dpoframe",
    *(path.parent for path in (ROOT / "plugins").glob("*/dpoframe_*/__init__.py")),
    *(path.parent for path in (ROOT / "evals").glob("dpoframe_*/__init__.py")),
]


def sources(folders: Iterable[Path]) -> list[Path]:
    """Python files under some folders."""
    return [path for folder in folders for path in sorted(folder.rglob("*.py")) if "__pycache__" not in path.parts]


FILES = sources(PACKAGES)
ALL = [*sources(ROOT / name for name in ("dpoframe", "plugins", "evals", "tests", "benchmarks")), ROOT / "dev.py"]


def bodies(files: Iterable[Path]) -> dict[str, int]:
    """Lines of each function's body without its docstring, by file and name."""
    found = {}
    for path in files:
        for node in functions(path):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            found[f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"] = lines
    return found


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions of a file, those inside others among them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_functions_are_short() -> None:
    """No body has more than 60 lines; in the packages the median has at most 8 and nine of ten at most 30."""
    assert {name: lines for name, lines in bodies(ALL).items() if lines > 60} == {}
    lengths = bodies(FILES)
    assert statistics.median(lengths.values()) <= 8
    assert sum(lines <= 30 for lines in lengths.values()) / len(lengths) >= 0.9


def test_files_are_short() -> None:
    """No file has 400 lines or more."""
    counts = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in ALL}
    assert {name: lines for name, lines in counts.items() if lines >= 400} == {}


def test_no_grab_bags() -> None:
    """No module is called utils, and no class Manager or Helper: such names say nothing of what is inside."""
    for path in FILES:
        assert path.stem not in ("utils", "util", "helpers", "common", "misc"), path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                assert not node.name.endswith(("Manager", "Helper", "Utils")), f"{path}: {node.name}"
