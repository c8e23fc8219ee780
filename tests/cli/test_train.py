"""What `dpoframe train` says at its end, and how faults of several lines look."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from dpoframe import ConfigError, Fault
from dpoframe.cli import main, train


@pytest.mark.parametrize("done", [True, False])
def test_train_names_only_what_is_there(
    done: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last lines name the model and the report where they were written, and say that an interrupted run has none."""
    model = tmp_path / "model"
    if done:
        model.mkdir()
        (tmp_path / "report.html").touch()
    result = SimpleNamespace(status="finished" if done else "interrupted", steps=3, final={}, model=model, exit_code=0)
    monkeypatch.setattr("dpoframe.config.load_recipe", lambda *_: SimpleNamespace(name="r"))
    monkeypatch.setattr(train, "run", lambda *_: result)
    assert main(["train", "r.yaml", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out.replace("\n", "")
    assert (f"Model: {model}" in out, "report.html" in out, "No model" in out) == (done, done, not done)


def test_faults_of_several_lines_are_indented() -> None:
    """The further lines of a fault stand under its own text, so that it cannot be taken for a message of its own."""
    assert str(ConfigError("two:", [Fault("a", "first\nmore"), Fault("", "second")])) == "two:\n  - a: first\n    more\n  - second"
