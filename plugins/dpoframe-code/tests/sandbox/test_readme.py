"""What README.md shows is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dpoframe_code import sandbox
from dpoframe_code.sandbox import probe

README = Path(__file__).parents[2] / "README.md"


def blocks() -> list[str]:
    """Its pieces of Python that are about the sandbox and the oracles."""
    text = README.read_text(encoding="utf-8")
    found = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    return [block for block in found if "dpoframe_code.sandbox" in block or "dpoframe_code.oracle" in block]


def test_the_pieces_run(capsys: pytest.CaptureFixture[str]) -> None:
    """They run one after the other, and what they print is what stands behind them."""
    if probe().tier is None:
        pytest.skip(str(probe()))
    names: dict[str, Any] = {}
    assert len(blocks()) >= 3
    for block in blocks():
        exec(compile(block, str(README), "exec"), names)
    assert capsys.readouterr().out == f"{probe()}\n"


def test_the_benchmark_runs() -> None:
    """The command that README.md names measures each way."""
    if probe().tier is None:
        pytest.skip(str(probe()))
    command = [sys.executable, "-W", "ignore", "-m", "dpoframe_code.sandbox.benchmark", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert "fresh interpreter, unprotected" in done.stdout
    assert "3 rounds, " in done.stdout


def test_all_public_names_are_there() -> None:
    """What the package says it offers, it has, in order."""
    assert sandbox.__all__ == sorted(sandbox.__all__, key=lambda name: (name[0].islower(), name))
    assert all(hasattr(sandbox, name) for name in sandbox.__all__)
