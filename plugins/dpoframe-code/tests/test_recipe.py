"""The recipe `code-execution`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from dpoframe_code import dpoframe_recipes
from dpoframe_code.problems.built import code_pairs

from dpoframe.cli import main
from dpoframe.config import load_recipe
from dpoframe.data import load_pairs
from dpoframe.plugins import host

RECIPES = dpoframe_recipes()


def test_recipe_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    """`dpoframe config code-execution` finds no fault in it, and shows what it says."""
    assert main(["config", "code-execution", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    shown = shown.get("recipe", shown)
    written = yaml.safe_load(RECIPES["code-execution"].read_text())
    assert (shown["data"]["name"], shown["data"]["per_problem"]) == ("code_pairs", 4)
    assert [one["name"] for one in shown["loss"]] == [one["name"] for one in written["loss"]]
    assert shown["modality"]["difference_weight"] == written["modality"]["difference_weight"]


def test_training_without_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no pairs were built, training says how they are, and leaves no folder behind."""
    monkeypatch.chdir(tmp_path)
    assert main(["train", "code-execution", "--out", "run"]) == 2
    assert "dpoframe data build --model MODEL --prompts mbpp" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_it_trains_on_what_is_built(tmp_path: Path) -> None:
    """The recipe's own data section reads a folder of built pairs; a tenth is held out, and the evidence stays with each pair."""
    example = Path(code_pairs.example_options["path"])  # type: ignore[attr-defined]
    (tmp_path / "passed.jsonl").write_bytes(example.read_bytes())
    recipe = load_recipe("code-execution", overrides=[f"data.path={tmp_path}", "data.validation=0.4"])
    loaded = load_pairs(recipe.data, host())
    assert (len(loaded.train) + len(loaded.validation), loaded.refused) == (4, [])
    assert {pair.meta["rejected_passed"] for pair in (*loaded.train, *loaded.validation)} == {0.0}
