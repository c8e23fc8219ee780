"""A command that fails before its first step can be mended and given again: it leaves no run, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import Callback

from dpoframe import CheckpointError, ConfigError, DpoframeError, PluginError, TrainingError, hookimpl
from dpoframe.testing.toy import ToyModality
from dpoframe.train.hooks import RunHooks


@dataclass(frozen=True)
class Unreadable(ToyModality):
    """A model whose file is cut off."""

    def build(self) -> Any:
        """Raises what loading such a file ends in."""
        raise CheckpointError("model.safetensors is cut off")


class Failing(Callback):
    """A plugin that fails at one place of a run."""

    def __init__(self, place: str) -> None:
        self.place = place

    def at(self, place: str) -> None:
        """Fails there."""
        if self.place == place:
            raise RuntimeError(f"at {place}")

    @hookimpl
    def dpoframe_modalities(self) -> Mapping[str, Any]:
        """The unreadable model."""
        return {"unreadable": Unreadable}

    @hookimpl
    def dpoframe_callbacks(self, config: Any) -> list[Callback]:
        """Itself."""
        self.at("callbacks")
        return [self]

    @hookimpl
    def dpoframe_reference(self, modality: Any, policy: Any, config: Any) -> None:
        """No reference."""
        self.at("reference")

    def on_train_start(self, *args: Any) -> None:
        """The run is set up."""
        self.at("start")

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        """A step is about to be done."""
        self.at(f"step {trainer.global_step}")


NAMED = "plugins=[toy, parts, failing]"


def files(folder: Path) -> list[str]:
    """Everything under a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def fail(run: Any, host: Any, name: str, place: str) -> Failing:
    """A run that fails at a place, and the plugin that made it, mended."""
    plugin = Failing(place)
    host.register(plugin, "failing")
    given: dict[str, Any] = {"modality": {"name": "unreadable"}} if place == "build" else {}
    with pytest.raises((DpoframeError, RuntimeError), match=f"at {place}|cut off|not finite"):
        run(name, NAMED, *(["data.count=8", "data.broken=3"] if place == "loss" else []), **given)
    plugin.place = ""
    return plugin


@pytest.mark.parametrize("place", ["build", "callbacks", "reference", "start", "step 0", "loss"])
def test_the_mended_command_runs(place: str, run: Any, host: Any, tmp_path: Path) -> None:
    """Whatever fails before a step is done leaves no folder, so the same command runs once it is mended."""
    fail(run, host, "runs/mine", place)
    assert files(tmp_path) == []
    assert run("runs/mine", NAMED).status == "finished"


@pytest.mark.parametrize("place", ["build", "callbacks", "start"])
def test_what_was_there_stays(place: str, run: Any, host: Any, tmp_path: Path) -> None:
    """Files of the user in the run folder stay, in a folder of the run's own names too."""
    (tmp_path / "mine" / "data").mkdir(parents=True)
    for name in ("notes.txt", "data/rows.txt"):
        (tmp_path / "mine" / name).write_text("mine")
    before = files(tmp_path)
    fail(run, host, "mine", place)
    assert set(before) <= set(files(tmp_path))
    assert not set(files(tmp_path)) & {"mine/recipe.yaml", "mine/environment.json", "mine/metrics.jsonl", "mine/checkpoints"}
    assert run("mine", NAMED).status == "finished"
    assert (tmp_path / "mine" / "data" / "rows.txt").read_text() == "mine"


def test_after_a_step_the_run_stays(run: Any, host: Any, tmp_path: Path) -> None:
    """Work that was done is kept, and goes on with --resume."""
    fail(run, host, "mine", "step 2")
    assert {"mine/recipe.yaml", "mine/metrics.jsonl", "mine/checkpoints/step-00000002.ckpt"} <= set(files(tmp_path))
    assert run("mine", NAMED, resume=True).status == "finished"


def test_a_resumed_run_is_never_taken_back(run: Any, host: Any, tmp_path: Path) -> None:
    """A resume that fails before its first step leaves the run as it was, though no step had been done."""
    plugin = fail(run, host, "mine", "step 1")
    (tmp_path / "mine" / "metrics.jsonl").unlink()
    for left in (tmp_path / "mine" / "checkpoints").iterdir():
        left.unlink()
    plugin.place = "step 0"
    with pytest.raises(RuntimeError, match="at step 0"), pytest.warns(RuntimeWarning, match="no whole checkpoint"):
        run("mine", NAMED, resume=True)
    assert {"mine/recipe.yaml", "mine/environment.json", "mine/data/summary.json"} <= set(files(tmp_path))


def test_a_file_that_cannot_be_written(run: Any, tmp_path: Path) -> None:
    """Where environment.json cannot be written there is no recipe.yaml either, and no run."""
    (tmp_path / "mine" / "environment.json" / "in the way").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"environment\.json is not a regular file"):
        run("mine")
    assert files(tmp_path / "mine") == ["environment.json", "environment.json/in the way"]


class Misreturning:
    """A plugin whose hooks return, or raise, what the test says."""

    def __init__(self, **made: Any) -> None:
        self.made = made

    def give(self, hook: str) -> Any:
        """The value, or the error raised."""
        value = self.made.get(hook)
        if isinstance(value, Exception):
            raise value
        return value

    @hookimpl
    def dpoframe_configure(self, config: Any) -> Any:
        """What the test says."""
        return self.give("configure")

    @hookimpl
    def dpoframe_reference(self, modality: Any, policy: Any, config: Any) -> Any:
        """What the test says."""
        return self.give("reference")

    @hookimpl
    def dpoframe_callbacks(self, config: Any) -> Any:
        """What the test says."""
        return self.give("callbacks")


@pytest.mark.parametrize(
    ("hook", "made", "told"),
    [
        ("reference", "a model", r"must return a torch\.nn\.Module or None, but returned 'a model'"),
        ("reference", [ToyModality().build()], r"must return a torch\.nn\.Module"),
        ("reference", ValueError("no such file"), "raised ValueError: no such file"),
        ("callbacks", ["no callback"], r"must return a list of .*Callback, but returned \['no callback'\]"),
        ("callbacks", Callback(), "must return a list of"),
        ("callbacks", 3, "must return a list of"),
        ("callbacks", KeyError("x"), "raised KeyError"),
        ("configure", TypeError("odd"), "raised TypeError: odd"),
    ],
)
def test_a_hook_that_breaks_its_contract_is_named(hook: str, made: Any, told: str, run: Any, host: Any) -> None:
    """What a hook of a run may not return or raise is told with the hook's and the plugin's name, exit code 2."""
    host.register(Misreturning(**{hook: made}), "misreturning")
    with pytest.raises(PluginError, match=rf"dpoframe_{hook} of the plugin 'misreturning'.*{told}") as caught:
        run("run", "plugins=[toy, parts, misreturning]")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("error", [MemoryError(), TrainingError("stop"), RuntimeError("can't allocate memory: 7 bytes")])
def test_what_is_no_fault_of_the_hook_passes(error: Exception, run: Any, host: Any) -> None:
    """An error of dpoframe, and memory that does not suffice, reach the caller as they are."""
    host.register(Misreturning(reference=error), "misreturning")
    with pytest.raises(type(error)) as caught:
        run("run", "plugins=[toy, parts, misreturning]")
    assert caught.value is error


def test_without_plugins_there_are_no_parts() -> None:
    """Hooks of nobody give nothing."""
    hooks = RunHooks()
    hooks.configure(None)
    assert hooks.reference(ToyModality(), ToyModality().build(), None) is None
    assert hooks.callbacks(None) == []
