"""`dpoframe ray` where Ray is not needed, or not there."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from dpoframe import MissingExtraError
from dpoframe.cli import main
from dpoframe.config import load_recipe
from dpoframe.launching import RayRun, Workers, reference_on_ray, train_on_ray


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Ray."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else real(name, *rest))


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize("verb", ["train", "reference"])
def test_without_ray(verb: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3 and the exact command to install it; nothing is written."""
    out = ["--out", str(tmp_path / "run")] if verb == "train" else []
    assert main(["ray", verb, str(recipe), *out]) == 3
    assert 'pip install "dpoframe[ray]"' in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chat.yaml"]


@pytest.mark.usefixtures("no_ray")
def test_without_ray_from_python(recipe: Path, tmp_path: Path) -> None:
    """The error carries the command."""
    loaded = load_recipe(recipe)
    for start in (lambda: train_on_ray(loaded, tmp_path / "run"), lambda: reference_on_ray(loaded)):
        with pytest.raises(MissingExtraError) as found:
            start()
        assert found.value.install == 'pip install "dpoframe[ray]"'


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--workers", "0"], "--workers"),
        (["--workers", "two"], "--workers"),
        (["--gpus-per-worker", "2"], "--gpus-per-worker"),
        (["--cpus-per-worker", "0"], "--cpus-per-worker"),
        (["--retries", "-2"], "--retries"),
        (["--allow-change", "data"], "--resume"),
        (["--set", "trainer.lrr=1"], "trainer.lrr"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_command_lines(words: list[str], told: str, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is refused before Ray is looked for, with exit code 2 and the option's name."""
    assert main(["ray", "train", str(recipe), *words]) == 2
    assert told in capsys.readouterr().err


def test_the_command_line_arrives(recipe: Path, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Every option reaches the function, and its result becomes the document and the exit code."""
    given: dict[str, Any] = {}

    def stand_in(recipe: Any, out: Path, **options: Any) -> RayRun:
        given.update(options, out=out, steps=recipe.trainer.max_steps)
        return RayRun(out, 7, {"loss": 0.5}, "interrupted", 143, tries=2)

    monkeypatch.setattr("dpoframe.launching.train_on_ray", stand_in)
    words = ["--workers=4", "--cpus-per-worker=2", "--gpus-per-worker=1", "--address=auto", "--retries=5", "--resume"]
    words += ["--allow-change", "data"]
    out = tmp_path / "run"
    assert main(["ray", "train", str(recipe), *words, "--set", "trainer.max_steps=9", "--out", str(out), "--json"]) == 143
    assert given == {
        "workers": Workers(4, 2, 1), "resume": True, "allow_changes": ["data"], "retries": 5, "address": "auto",
        "out": out, "steps": 9,
    }  # fmt: skip
    captured = capsys.readouterr()
    assert json.loads(captured.out) | {"final": {}} == {
        "folder": str(out), "status": "interrupted", "steps": 7, "tries": 2, "final": {}, "model": None
    }  # fmt: skip
    again = f"dpoframe ray train {recipe} --set trainer.max_steps=9 --workers 4 --address auto --out {out} --resume"
    assert again in captured.err.replace("\n", " ")
