"""Who may import whom. Read from the source, so that imports inside functions count as well."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dpoframe"

# From the bottom up: a module may import its own layer and those below, but for the pairs in APART.
LAYERS = (
    ("types", "errors", "rng", "digests", "credentials", "companions"),
    ("modality", "loss", "evaluator", "reporter", "losses", "metrics"),
    ("hookspecs",),
    ("plugins", "config"),
    ("data", "checkpoint"),
    ("train", "harness"),
    ("align", "telling", "card_samples", "planning"),
    ("launching",),
    ("cli", "__main__"),
)
APART = {("train", "harness"), ("harness", "train")}
# Parts of the core that stand beside the layers: loaded by name, like plugins, or used by authors alone.
BESIDE = {"builtin", "testing", "scaffold"}
# What only the command line may load, and only inside the verb that needs it.
ALLOWED_BESIDE = {"cli": {"testing", "scaffold"}, "plugins": {"builtin"}, "scaffold": {"plugins"}}
HEAVY = {"transformers", "datasets", "wandb", "peft", "diffusers", "open_clip", "tensorboard", "gguf", "ray"}


def sources(folder: Path) -> Iterator[Path]:
    """Python files under a folder."""
    return (path for path in sorted(folder.rglob("*.py")) if "__pycache__" not in path.parts)


def imported(path: Path, top_level_only: bool = False) -> set[str]:
    """Dotted names of what a file imports, `from a import b` as a.b; what is for type checkers alone is left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if top_level_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        waiting += ast.iter_child_nodes(node)
    return found


def unit(path: Path) -> str:
    """The first-level part of the package a file belongs to, empty for the root module."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py").replace("__init__", "")


def units_of(names: set[str]) -> set[str]:
    """First-level parts of dpoframe among imported names."""
    known = {unit(path) for path in sources(PACKAGE)}
    parts = [name.split(".") for name in names]
    return {part[1] for part in parts if part[0] == "dpoframe" and len(part) > 1 and part[1] in known}


def test_every_part_has_a_layer() -> None:
    """Each module of the core has its place in the layers."""
    placed = {name for layer in LAYERS for name in layer} | BESIDE
    assert {unit(path) for path in sources(PACKAGE)} - {""} <= placed


@pytest.mark.parametrize("name", [name for layer in LAYERS for name in layer])
def test_layers(name: str) -> None:
    """A part of the core imports its own layer and those below it, and nothing that is kept apart."""
    level = next(number for number, layer in enumerate(LAYERS) if name in layer)
    allowed = {part for layer in LAYERS[: level + 1] for part in layer} - {other for one, other in APART if one == name}
    for path in sources(PACKAGE):
        if unit(path) == name:
            stray = units_of(imported(path)) - allowed - ALLOWED_BESIDE.get(name, set())
            assert not stray, f"{path.relative_to(ROOT)} imports {', '.join(sorted(stray))}"


def test_scaffold_stands_alone() -> None:
    """The templates' writer needs the host and the errors, nothing more."""
    for path in sources(PACKAGE / "scaffold"):
        assert units_of(imported(path)) <= {"plugins", "errors"}


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    """No module of the core imports transformers, datasets, wandb or their like at its top."""
    for path in sources(PACKAGE):
        heavy = {name.split(".")[0] for name in imported(path, top_level_only=True)} & HEAVY
        assert not heavy, f"{path.relative_to(ROOT)} imports {', '.join(sorted(heavy))} at its top"


def distributions() -> list[Path]:
    """Packages of the first-party plugins and of the suites."""
    found = [path.parent for path in (ROOT / "plugins").glob("*/dpoframe_*/__init__.py")]
    return [*found, *(path.parent for path in (ROOT / "evals").glob("dpoframe_*/__init__.py"))]


def test_plugins_import_only_the_root() -> None:
    """First-party plugins use what any plugin may use: names of `dpoframe` itself; in tests also `dpoframe.testing`."""
    import dpoframe

    public = {f"dpoframe.{name}" for name in dpoframe.__all__} | {"dpoframe", "dpoframe.__version__"}
    for package in distributions():
        for path in sources(package):
            names = {name for name in imported(path) if name.split(".")[0] == "dpoframe"}
            assert names <= public, f"{path.relative_to(ROOT)} imports {', '.join(sorted(names - public))}"


def test_plugins_do_not_import_each_other() -> None:
    """A plugin needs no other plugin's code."""
    for package in distributions():
        for path in sources(package):
            roots = {name.split(".")[0] for name in imported(path)}
            others = {root for root in roots if root.startswith("dpoframe_")} - {package.name}
            assert not others, f"{path.relative_to(ROOT)} imports {', '.join(sorted(others))}"


@pytest.mark.parametrize(
    "statement",
    [
        "import dpoframe",
        "import dpoframe.losses",
        "import dpoframe.plugins; dpoframe.plugins.host().plugins",
        "import dpoframe.testing, dpoframe.testing.pytest_plugin",
        "import dpoframe.cli; dpoframe.cli.main(['--help'])",
        "import dpoframe.cli; dpoframe.cli.main(['plugins', 'list', '--json'])",
    ],
)
def test_without_torch(statement: str) -> None:
    """What every use of dpoframe begins with imports neither torch nor lightning nor transformers."""
    found = "sorted({'torch', 'lightning', 'transformers', 'pandas'} & set(sys.modules))"
    code = f"import sys; {statement}; print({found}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip().splitlines()[-1] == "[]", done.stderr


def test_module_of_training_stays_readable() -> None:
    """The LightningModule has under 150 lines."""
    file = PACKAGE / "train" / "module.py"
    assert len(file.read_text(encoding="utf-8").splitlines()) < 150
