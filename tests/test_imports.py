"""Each module imports alone, in an interpreter that has imported no other module of dpoframe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# One process imports the libraries once; each module is then imported in a fork of it, where no module of dpoframe is known.
FORKS = """
import gc, importlib, os, sys, traceback
for name in ("torch", "lightning.pytorch", "pydantic", "typer", "pluggy", "yaml", "pytest"):
    importlib.import_module(name)
assert not [name for name in sys.modules if name.split(".")[0].startswith("dpoframe")]
gc.freeze()  # a collection in a child would copy the libraries' pages
bad = []
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        gc.disable()
        try:
            importlib.import_module(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        bad.append(name)
print(" ".join(bad))
"""


def modules() -> list[str]:
    """Dotted names of every module of the core, the plugins and the suites."""
    roots = [ROOT, *(path for path in (ROOT / "plugins").iterdir() if path.is_dir()), ROOT / "evals"]
    found = []
    for root in roots:
        for path in sorted(root.glob("dpoframe*/**/*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            if "__pycache__" not in name and not name.endswith("__main__"):
                found.append(name.removesuffix(".__init__"))
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, which this system lacks")
def test_each_module_imports_alone() -> None:
    """No module relies on another having been imported before it."""
    names = modules()
    assert len(names) > 30
    done = subprocess.run([sys.executable, "-c", FORKS, *names], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "", done.stderr
