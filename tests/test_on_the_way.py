"""Suites while a model is aligned, on a toy: rows, folders, the best weights, resuming, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpoframe.align import align
from dpoframe.checkpoint import CheckpointFolder, open_model
from dpoframe.config import KeepBestCheckpoints, Recipe, load_recipe
from dpoframe.errors import ConfigError
from dpoframe.harness import EvalFolder, Subject, load_suite, run_suite
from dpoframe.plugins import PluginHost, using
from dpoframe.testing import toy

SUITE = """
name: small
version: 1
prompts: [say a, say b, say c, say d]
pairs: {name: toy, count: 24, seed: 7}
generation: {max_new_tokens: 8}
evaluators: [finished, preference_accuracy, reward_margin, response_length]
"""
LENGTHS = "ignore:.*chosen response is the:RuntimeWarning"  # what the check says of the toy's lengths
pytestmark = pytest.mark.filterwarnings(LENGTHS)


@pytest.fixture
def plugins() -> Iterator[PluginHost]:
    """The core and the toy."""
    made = PluginHost([])
    made.register(toy, "toy")
    with using(made):
        yield made


def recipe(folder: Path, **during: Any) -> Recipe:
    """Twelve toy steps, evaluated on the suite above and on the way."""
    (folder / "small.yaml").write_text(SUITE)
    return load_recipe(
        {
            "modality": {"name": "toy"},
            "data": {"name": "toy", "count": 32},
            "loss": {"name": "sigmoid", "beta": 0.5},
            "trainer": {"max_steps": 12, "batch_size": 8, "lr": 0.05, "accelerator": "cpu", "devices": 1, "save_every": 4},
            "evaluate": {"suites": [str(folder / "small.yaml")], **during},
        }
    )


def rows(folder: Path, stage: str) -> list[dict[str, Any]]:
    """The rows of one stage."""
    read = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in read if row.get("stage") == stage]


def test_every_so_many_steps(tmp_path: Path, plugins: PluginHost) -> None:
    """Every fourth step's figures are rows and whole evaluations, against the untrained model; progress tells of them."""
    told: list[str] = []
    done = align(recipe(tmp_path, every=4), tmp_path / "run", host=plugins, progress=lambda stage, *_: told.append(stage))
    found = rows(done.folder, "evaluation")
    assert [row["step"] for row in found] == [4, 8, 12]
    assert found[0]["small/reward_margin"] < found[1]["small/reward_margin"] < found[2]["small/reward_margin"]
    assert found[2]["small/reward_margin"] == pytest.approx(done.comparisons[0]["reward_margin"].after.value)
    results = EvalFolder(done.folder / "steps" / "00000004" / "eval" / "small").document("results.json")
    assert results["metrics"]["reward_margin"]["value"] == found[0]["small/reward_margin"]
    assert "step 4/generate" in told
    assert done.report is not None
    assert "small: reward margin" in done.report.read_text(encoding="utf-8")  # the curve's title


def test_limit(tmp_path: Path, plugins: PluginHost) -> None:
    """On the way only the first rows are asked for; before and after all are."""
    done = align(recipe(tmp_path, every=6, limit=2), tmp_path / "run", host=plugins)
    place = done.folder / "steps" / "00000006" / "eval" / "small"
    assert len(EvalFolder(place).samples()) == 2
    assert len(EvalFolder(done.folder / "eval" / "small").samples()) == 4


def test_the_best_is_the_model(tmp_path: Path, plugins: PluginHost) -> None:
    """What is exported, and evaluated in the end, are the weights of the best evaluation: here those of the least change."""
    best = {"metric": "small/reward_margin", "direction": "lower"}
    done = align(recipe(tmp_path, every=4, keep_best=best), tmp_path / "run", host=plugins)
    found = rows(done.folder, "evaluation")
    assert done.comparisons[0]["reward_margin"].after.value == pytest.approx(found[0]["small/reward_margin"])
    card = (done.model / "README.md").read_text()
    assert "The weights are those after step 4, the best of the evaluations by small/reward_margin" in card
    modality, model = open_model(done.folder)
    again = run_suite(Subject("opened", modality, model), load_suite(tmp_path / "small.yaml", plugins), tmp_path / "again")
    kept = EvalFolder(done.folder / "steps" / "00000004" / "eval" / "small").samples()
    assert [row.response for row in EvalFolder(again.folder).samples()] == [row.response for row in kept]


def test_direction_is_the_metrics_own(tmp_path: Path, plugins: PluginHost) -> None:
    """Without a direction the evaluator's word counts: a margin is better high."""
    made = recipe(tmp_path, every=4, keep_best={"metric": "small/reward_margin"}, patience=1)
    done = align(made, tmp_path / "run", host=plugins)
    assert "after step 12" in (done.model / "README.md").read_text()
    assert load_recipe(done.folder).during == made.during


@pytest.mark.parametrize(
    ("during", "part"),
    [
        ({"every": 4, "keep_best": {"metric": "small/reward_margn"}}, "Did you mean 'small/reward_margin'?"),
        ({"every": 4, "keep_best": {"metric": "other/finished"}}, "no suite gives other/finished"),
        ({"every": 4, "keep_best": {"metric": "small/response_length"}}, "does not say which way is better"),
    ],
)
def test_refused_before_weights(
    tmp_path: Path, plugins: PluginHost, monkeypatch: pytest.MonkeyPatch, during: dict[str, Any], part: str
) -> None:
    """A figure that no suite gives, or that is neither better high nor low, stops the run before a model is built."""
    monkeypatch.setattr(toy.ToyModality, "build", lambda self: pytest.fail("the model was built"))
    with pytest.raises(ConfigError) as caught:
        align(recipe(tmp_path, **during), tmp_path / "run", host=plugins)
    assert part in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_suites_figure_keeps_checkpoints(tmp_path: Path, plugins: PluginHost) -> None:
    """The evaluator's word says which way is better, the recipe of the run shows it, and a misspelt figure is refused."""
    made = recipe(tmp_path, every=4)
    best = KeepBestCheckpoints("small/reward_margin")
    made = replace(made, trainer=replace(made.trainer, keep_checkpoints=1, keep_best_checkpoints=best))
    done = align(made, tmp_path / "run", host=plugins)
    assert CheckpointFolder(done.folder / "checkpoints").steps() == [12]  # margins grow
    assert load_recipe(done.folder).trainer.keep_best_checkpoints == replace(best, direction="higher")
    best = KeepBestCheckpoints("small/reward_margin", "lower")
    made = replace(made, trainer=replace(made.trainer, keep_best_checkpoints=best))
    assert CheckpointFolder(align(made, tmp_path / "low", host=plugins).folder / "checkpoints").steps() == [4, 12]
    best = KeepBestCheckpoints("small/reward_margn", "lower")
    made = replace(made, trainer=replace(made.trainer, keep_best_checkpoints=best))
    with pytest.raises(ConfigError, match=r"keep_best_checkpoints.metric: no suite gives .* Did you mean 'small/reward_margin'"):
        align(made, tmp_path / "wrong", host=plugins)


@pytest.mark.parametrize(
    ("during", "part"),
    [
        ({"evry": 4}, "Did you mean 'every'?"),
        ({"every": 0}, "evaluate.every"),
        ({"keep_best": {"metric": "small/finished"}}, "needs evaluate.every"),
        ({"every": 2, "patience": 3}, "needs evaluate.keep_best"),
        ({"every": 2, "keep_best": {"metric": "finished"}}, "evaluate.keep_best.metric"),
        ({"every": 2, "keep_best": {"metric": "a/b", "direction": "up"}}, "evaluate.keep_best.direction"),
        ({"suites": ["nosuch"]}, "evaluate.suites.0"),
    ],
)
def test_keys_are_strict(tmp_path: Path, plugins: PluginHost, during: dict[str, Any], part: str) -> None:
    """The section is read like every other: unknown keys, values that cannot be, keys that need another, unknown suites."""
    with pytest.raises(ConfigError) as caught:
        recipe(tmp_path, **during)
    assert part in str(caught.value)


def test_the_short_form_is_kept(tmp_path: Path, plugins: PluginHost) -> None:
    """A list of names means before and after alone, and is written as such; tasks of lm_eval are left to it."""
    (tmp_path / "small.yaml").write_text(SUITE)
    made = load_recipe(
        {"modality": "toy", "data": "toy", "evaluate": [str(tmp_path / "small.yaml"), "lm_eval:arc_easy"]}, host=plugins
    )
    assert (made.during, made.evaluate[1]) == (None, "lm_eval:arc_easy")
    assert made.to_dict()["evaluate"] == list(made.evaluate)


def test_two_suites_of_one_name(tmp_path: Path, plugins: PluginHost) -> None:
    """Two suites that would write to one folder are refused."""
    (tmp_path / "other.yaml").write_text(SUITE)
    made = recipe(tmp_path, suites=[str(tmp_path / "small.yaml"), str(tmp_path / "other.yaml")])
    with pytest.raises(ConfigError, match="suite small is named twice"):
        align(made, tmp_path / "run", host=plugins)
