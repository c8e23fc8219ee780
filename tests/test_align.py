"""The whole story on a toy model: evaluated, aligned, evaluated again, compared, reported."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dpoframe import Reporter, ReporterSession, RunInfo, hookimpl
from dpoframe.align import Alignment, align
from dpoframe.config import load_recipe
from dpoframe.config.sections import Part
from dpoframe.errors import CheckpointError, ConfigError, DataError, PluginError
from dpoframe.harness import Comparison, EvalFolder, report
from dpoframe.plugins import PluginHost, using
from dpoframe.testing import toy
from dpoframe.train.claim import claimed
from dpoframe.train.fit import FitResult

SUITE = """
name: small
version: 1
prompts: [say a, say b, say c, say d]
pairs: {name: toy, count: 24, seed: 7}
generation: {max_new_tokens: 8}
evaluators: [finished, base_logp, preference_accuracy, reward_margin, response_length]
"""


@pytest.fixture
def plugins() -> Iterator[PluginHost]:
    """The core and the toy."""
    made = PluginHost([])
    made.register(toy, "toy")
    with using(made):
        yield made


def recipe(folder: Path, **modality: Any) -> Any:
    """A recipe of a few toy steps that is evaluated on the suite above."""
    (folder / "small.yaml").write_text(SUITE)
    return load_recipe(
        {
            "modality": {"name": "toy", **modality},
            "data": {"name": "toy", "count": 32},
            "loss": {"name": "sigmoid", "beta": 0.5},
            "trainer": {"max_steps": 12, "batch_size": 8, "lr": 0.05, "accelerator": "cpu", "devices": 1},
            "evaluate": [str(folder / "small.yaml")],
        }
    )


@pytest.mark.filterwarnings("ignore:.*chosen response is the:RuntimeWarning")  # what the check says of the toy's lengths
@pytest.mark.parametrize("adapter", [False, True])
def test_the_whole_story(tmp_path: Path, plugins: PluginHost, adapter: bool) -> None:
    """Base and aligned are evaluated on the same requests; held-out accuracy rises from one half; the report is written."""
    done = align(recipe(tmp_path, adapter=adapter), tmp_path / "run", host=plugins)
    comparison = done.comparisons[0]
    assert comparison["preference_accuracy"].before.value == 0.5
    assert comparison["preference_accuracy"].after.value > 0.7
    assert comparison["reward_margin"].verdict == "better"
    assert (done.status, done.exit_code, done.steps) == ("finished", 0, 12)
    assert done.report == tmp_path / "run" / "report.html"
    assert done.final["eval/small.preference_accuracy"] == comparison["preference_accuracy"].after.value
    before, after = tmp_path / "run" / "base" / "eval" / "small", tmp_path / "run" / "eval" / "small"
    assert [row.id for row in EvalFolder(before).samples()] == [row.id for row in EvalFolder(after).samples()]
    assert json.loads((after / "results.json").read_text())["complete"] is True


@pytest.mark.filterwarnings("ignore:.*chosen response is the:RuntimeWarning")  # what the check says of the toy's lengths
def test_a_training_without_suites_has_a_page(tmp_path: Path, plugins: PluginHost) -> None:
    """Without suites the page holds the curves, and says that nothing was measured; a gate finds nothing to judge there."""
    plain = load_recipe({**recipe(tmp_path).to_dict(), "evaluate": []})
    done = align(plain, tmp_path / "run", host=plugins)
    assert (done.comparisons, done.report) == ((), tmp_path / "run" / "report.html")
    text = done.report.read_text()
    assert "No suite was run" in text
    assert "Reward margin" in text
    (tmp_path / "gate.yaml").write_text("gate: [{suite: small, metric: finished, margin: 0.1}]")
    with pytest.raises(ConfigError, match="was not compared"):
        report(tmp_path / "run", tmp_path / "gated.html", tmp_path / "gate.yaml")
    with pytest.raises(DataError, match="holds no evaluation"):
        report([tmp_path / "run", tmp_path / "run"], tmp_path / "two.html")


@pytest.mark.filterwarnings("ignore:.*chosen response is the:RuntimeWarning")  # what the check says of the toy's lengths
def test_goes_on_after_training(tmp_path: Path, plugins: PluginHost) -> None:
    """A run that was cut off while the aligned model was evaluated is finished by --resume, to the same results."""
    first = align(recipe(tmp_path), tmp_path / "run", host=plugins)
    file = tmp_path / "run" / "eval" / "small" / "results.json"
    written = file.read_bytes()
    for path in (file, tmp_path / "run" / "eval" / "small" / "samples.jsonl", tmp_path / "run" / "report.html"):
        path.unlink()
    again = align(recipe(tmp_path), tmp_path / "run", resume=True, host=plugins)
    assert file.read_bytes() == written
    assert again.comparisons[0].differences == first.comparisons[0].differences
    assert again.report is not None
    assert again.report.is_file()
    assert again.steps == first.steps


@pytest.mark.filterwarnings("ignore:.*chosen response is the:RuntimeWarning")  # what the check says of the toy's lengths
def test_progress_covers_every_stage(tmp_path: Path, plugins: PluginHost) -> None:
    """Progress is told of every stage, in order, and each ends at its total."""
    told: list[tuple[str, int, int]] = []
    align(recipe(tmp_path), tmp_path / "run", host=plugins, progress=lambda *what: told.append(what))
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    evaluated = ["generate", "answers", "pairs", "score"]
    assert stages == [*(f"base/{one}" for one in evaluated), "train", *(f"aligned/{one}" for one in evaluated)]
    last = {stage: (done, total) for stage, done, total in told}
    assert all(done == total for done, total in last.values())


@pytest.mark.filterwarnings("ignore:.*chosen response is the:RuntimeWarning")  # what the check says of the toy's lengths
def test_a_finished_run_is_shown_again(tmp_path: Path, plugins: PluginHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where everything is there already, the same comparison comes from the files, and no model is built."""
    made = recipe(tmp_path)
    first = align(made, tmp_path / "run", host=plugins)
    monkeypatch.setattr(toy.ToyModality, "build", lambda self: pytest.fail("a model was built"))
    again = align(made, tmp_path / "run", resume=True, host=plugins)
    assert again.comparisons[0].differences == first.comparisons[0].differences
    assert (again.steps, again.status) == (first.steps, "finished")


@pytest.mark.filterwarnings("ignore:.*chosen response is the:RuntimeWarning")
def test_verdicts_that_were_lost_are_made_up_for(tmp_path: Path, plugins: PluginHost) -> None:
    """A finished run whose verdicts were cut off is evaluated again as far as it takes, not shown with what is left."""
    made = recipe(tmp_path)
    first = align(made, tmp_path / "run", host=plugins)
    file = tmp_path / "run" / "eval" / "small" / "scores.jsonl"
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2])
    again = align(made, tmp_path / "run", resume=True, host=plugins)
    assert file.read_text() == whole
    assert again.comparisons[0].differences == first.comparisons[0].differences


def test_figures_without_a_difference_are_final_too(tmp_path: Path) -> None:
    """A win rate against the base's answers has no difference from one against references; the aligned model's own is told."""
    fit = FitResult(tmp_path, 3, {"loss": 0.5})
    figures: dict[str, dict[str, Any]] = {"win_rate": {"value": 0.625, "n": 8}, "win_rate/null": {"value": None, "n": 0}}
    comparison = Comparison("small", {}, {}, (), (), figures, left_out=dict.fromkeys(figures, "unlike rivals"))
    assert Alignment(fit, (comparison,)).final == {"loss": 0.5, "eval/small.win_rate": 0.625}


def test_bad_suite_comes_before_weights(tmp_path: Path, plugins: PluginHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite with a fault stops the run before a model is built, and nothing is written."""
    made = recipe(tmp_path)
    (tmp_path / "small.yaml").write_text(SUITE.replace("finished", "finishd"))
    monkeypatch.setattr(toy.ToyModality, "build", lambda self: pytest.fail("the model was built"))
    with pytest.raises(ConfigError, match="finishd"):
        align(made, tmp_path / "run", host=plugins)
    assert not (tmp_path / "run").exists()


class Refusing:
    """A plugin that refuses every recipe."""

    @hookimpl
    def dpoframe_configure(self, config: Any) -> None:
        """Refuses it."""
        raise ConfigError("not this one")


def test_a_plugins_refusal_comes_before_weights(tmp_path: Path, plugins: PluginHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dpoframe_configure` is asked before the model is built, also where the recipe evaluates first."""
    plugins.register(Refusing(), "refusing")
    made = replace(recipe(tmp_path), plugins=("refusing",))
    monkeypatch.setattr(toy.ToyModality, "build", lambda self: pytest.fail("the model was built"))
    with pytest.raises(ConfigError, match="not this one"):
        align(made, tmp_path / "run", host=plugins)
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore:.*chosen response is the:RuntimeWarning")
def test_reporters_are_told_of_the_evaluations(tmp_path: Path, plugins: PluginHost) -> None:
    """Figures before and after, the answers side by side and the report go to the reporters as a job of their own."""
    told: list[tuple[str, Any]] = []

    class Listening(ReporterSession):
        """Remembers what it is told."""

        def log(self, row: Any) -> None:
            told.append(("row", row))

        def table(self, name: str, columns: Any, rows: Any) -> None:
            told.append(("table", (name, columns, rows)))

        def artifact(self, kind: str, name: str, path: Path) -> None:
            told.append(("artifact", (kind, path.name)))

    @dataclass(frozen=True)
    class Listener(Reporter):
        """Opens such a session for evaluations."""

        def start(self, run: RunInfo) -> ReporterSession:
            return Listening() if run.job == "eval" else ReporterSession()

    given = replace(recipe(tmp_path), reporters=(Part("listener", Listener(), ""),))
    done = align(given, tmp_path / "run", host=plugins)
    rows = [what for kind, what in told if kind == "row"]
    assert [(row["step"], row["stage"]) for row in rows] == [(0, "eval/small"), (12, "eval/small")]
    assert rows[0]["preference_accuracy"] == 0.5
    assert rows[1]["preference_accuracy"] == done.comparisons[0]["preference_accuracy"].after.value
    ((name, columns, answers),) = (what for kind, what in told if kind == "table")
    assert name == "samples/small"
    assert columns[:3] == ["prompt", "base", "aligned"]
    assert {row[0] for row in answers} == {"say a", "say b", "say c", "say d"}
    assert {len(row) for row in answers} == {len(columns)}
    assert told[-1] == ("artifact", ("report", "report.html"))


@pytest.mark.filterwarnings("ignore:.*chosen response is the:RuntimeWarning")  # what the check says of the toy's lengths
@pytest.mark.parametrize("evaluated", [True, False])
def test_a_finished_run_of_another_recipe_is_refused(evaluated: bool, tmp_path: Path, plugins: PluginHost) -> None:
    """A finished run, evaluated or not, is neither shown nor evaluated for a recipe that did not make it."""
    align(recipe(tmp_path), tmp_path / "run", host=plugins)
    if not evaluated:
        shutil.rmtree(tmp_path / "run" / "eval")
    before = files(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"(?s)another recipe.*--out.*modality\.width: the run has 8, the recipe now says 4"):
        align(recipe(tmp_path, width=4), tmp_path / "run", resume=True, host=plugins)
    assert files(tmp_path / "run") == before
    (tmp_path / "run" / "recipe.yaml").unlink()
    with pytest.raises(CheckpointError, match="no run to resume"):
        align(recipe(tmp_path), tmp_path / "run", resume=True, host=plugins)


def files(folder: Path) -> dict[str, int]:
    """Every file of a folder with the time it was last written."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.filterwarnings("ignore:.*chosen response is the:RuntimeWarning")  # what the check says of the toy's lengths
def test_the_folder_is_claimed_from_first_to_last(tmp_path: Path, plugins: PluginHost) -> None:
    """While base or aligned model are evaluated, and while it trains, no other process can claim the folder; afterwards one can."""
    tried: dict[str, bool] = {}

    def try_to_claim(stage: str, done: int, total: int) -> None:
        with contextlib.suppress(ConfigError), claimed(tmp_path / "run"):
            tried[stage] = True
        tried.setdefault(stage, False)

    align(recipe(tmp_path), tmp_path / "run", host=plugins, progress=try_to_claim)
    assert {stage.partition("/")[0] for stage in tried} == {"base", "train", "aligned"}
    assert not any(tried.values())
    tried.clear()
    shutil.rmtree(tmp_path / "run" / "eval")
    align(recipe(tmp_path), tmp_path / "run", resume=True, host=plugins, progress=try_to_claim)
    assert {stage.partition("/")[0] for stage in tried} >= {"aligned"}
    assert not any(tried.values())
    with claimed(tmp_path / "run"):
        pass


@pytest.mark.filterwarnings("ignore:.*chosen response is the:RuntimeWarning")  # what the check says of the toy's lengths
@pytest.mark.parametrize("finished", [True, False])
def test_nothing_is_evaluated_into_a_claimed_folder(
    finished: bool, tmp_path: Path, plugins: PluginHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another process holds the folder, the base is not even built, be the training finished or not."""
    align(recipe(tmp_path), tmp_path / "run", host=plugins)
    shutil.rmtree(tmp_path / "run" / ("eval" if finished else "model"))
    before = files(tmp_path / "run")
    monkeypatch.setattr(toy.ToyModality, "build", lambda self: pytest.fail("a model was built"))
    with claimed(tmp_path / "run"), pytest.raises(ConfigError, match="Another process is writing"):
        align(recipe(tmp_path), tmp_path / "run", resume=True, host=plugins)
    assert files(tmp_path / "run") == before


class Failing:
    """A plugin whose callbacks cannot be made, until it is mended."""

    broken = True

    @hookimpl
    def dpoframe_callbacks(self, config: Any) -> list[Any]:
        """Raises while broken."""
        if self.broken:
            raise ValueError("no callbacks today")
        return []


@pytest.mark.filterwarnings("ignore:.*chosen response is the:RuntimeWarning")
@pytest.mark.parametrize("width", [8, 12])
def test_a_failed_command_can_be_mended(width: int, tmp_path: Path, plugins: PluginHost) -> None:
    """Evaluated, then failed: the mended command runs, and with another model it evaluates that one, not the one before."""
    plugin = Failing()
    plugins.register(plugin, "failing")
    made = replace(recipe(tmp_path), plugins=("failing",))
    with pytest.raises(PluginError, match="dpoframe_callbacks of the plugin 'failing'"):
        align(made, tmp_path / "run", host=plugins)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["base"]
    plugin.broken = False
    mended = align(replace(recipe(tmp_path, width=width), plugins=("failing",)), tmp_path / "run", host=plugins)
    fresh = align(replace(recipe(tmp_path, width=width), plugins=("failing",)), tmp_path / "fresh", host=plugins)
    assert mended.comparisons[0].differences == fresh.comparisons[0].differences
