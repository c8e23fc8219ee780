"""The run folder under attack: two runs at once, what was left or damaged, places where no folder can be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dpoframe import CheckpointError, ConfigError, MachineError, PluginError, hookimpl
from dpoframe.testing.toy import ToyModality
from dpoframe.train.claim import claimed
from dpoframe.train.folder import RunFolder


def test_one_process_writes_at_a_time(make_recipe: Any, run: Any, tmp_path: Path) -> None:
    """While one run writes to a folder, a second is refused with one message, and the first's files stay as they are."""
    folder = tmp_path / "shared"
    RunFolder(folder).checkpoints.path.mkdir(parents=True)
    RunFolder(folder).create(make_recipe(), {})
    before = sorted((file.name, file.stat().st_mtime_ns) for file in folder.iterdir())
    with claimed(folder), pytest.raises(ConfigError, match=r"Another process is writing.*--out"):
        run("shared", resume=True)
    assert sorted((file.name, file.stat().st_mtime_ns) for file in folder.iterdir()) == before
    with pytest.warns(RuntimeWarning, match="no whole checkpoint"):
        assert run("shared", resume=True).status == "finished"


def test_the_claim_dies_with_its_process(tmp_path: Path) -> None:
    """A run that was killed leaves no claim behind."""
    script = (
        "import os, signal, sys; from pathlib import Path; from dpoframe.train.claim import claimed\n"
        "with claimed(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    with claimed(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_leftovers_are_swept(tmp_path: Path) -> None:
    """What a killed process set aside, files, models and a checkpoint without its manifest, is removed; the rest stays."""
    folder = RunFolder(tmp_path)
    for left in (".model.7.aside", ".model.7.old"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "weights").write_text("half")
    folder.checkpoints.path.mkdir()
    for name in (".recipe.yaml.7.aside", "checkpoints/step-00000001.ckpt", "kept.txt"):
        (tmp_path / name).write_text("x")
    with folder.claimed():
        assert sorted(file.name for file in tmp_path.rglob("*")) == ["checkpoints", "kept.txt"]


@pytest.mark.parametrize("content", ["", "{", "[1]\n", "a: \0", "\ufffd: 1\n"])
def test_a_damaged_recipe_is_no_other_recipe(content: str, run: Any, make_recipe: Any, tmp_path: Path) -> None:
    """Resuming where recipe.yaml is cut off or overwritten says so in one message, and changes nothing."""
    folder = RunFolder(tmp_path / "hurt")
    folder.checkpoints.path.mkdir(parents=True)
    folder.recipe.write_text(content)
    with pytest.raises((ConfigError, CheckpointError), match=r"recipe\.yaml|another recipe"):
        run("hurt", resume=True)
    assert folder.recipe.read_text() == content


def test_damaged_metrics_are_passed_over(tmp_path: Path) -> None:
    """Lines of metrics.jsonl that are no rows are left out, whatever they are."""
    folder = RunFolder(tmp_path)
    folder.metrics.write_bytes(b'\xff\n{"step": 0}\n[1]\nnull\n{"x": 1}\n{"step": "a"}\n{"step": 1, "lo')
    assert folder.rows() == [{"step": 0}]
    folder.rewind(1)
    assert folder.metrics.read_text() == '{"step": 0}\n'


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_is_no_run_folder(below: str, run: Any, tmp_path: Path) -> None:
    """A run folder that is a file, or lies under one, is the user's mistake, and the file is left alone."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match=r"file is no folder.*--out"):
        run(f"file/{below}")
    assert (tmp_path / "file").read_text() == "mine"


class Quitting(ToyModality):
    """A modality that ends the program in the middle of a run."""

    def score(self, model: Any, batch: Any) -> Any:
        """Ends the program."""
        raise SystemExit(5)


class QuittingPlugin:
    """Supplies it."""

    @hookimpl
    def dpoframe_modalities(self) -> dict[str, Any]:
        """The modality that quits."""
        return {"quitting": Quitting}


def test_a_plugin_that_ends_the_program_is_no_interrupt(host: Any, run: Any) -> None:
    """SystemExit of a plugin is not taken for Ctrl-C."""
    host.register(QuittingPlugin(), "quitter")
    with pytest.raises(SystemExit) as ended:
        run("quit", modality={"name": "quitting"})
    assert ended.value.code == 5


class Misreturning:
    """A plugin whose loss term is no tensor."""

    def __init__(self, made: Any) -> None:
        self.made = made

    @hookimpl
    def dpoframe_loss_terms(self, scores: Any, stage: str, step: int) -> Any:
        """What the test says."""
        return self.made


@pytest.mark.parametrize("made", [{"x": "nonsense"}, {"x": 1.0}, {"x": torch.zeros(2)}, 3], ids=str)
def test_a_hook_that_returns_no_scalars_is_named(made: Any, host: Any, run: Any) -> None:
    """What a hook may not return is the plugin's fault, told with the hook's and the plugin's name."""
    host.register(Misreturning(made), "misreturning")
    with pytest.raises(PluginError, match=r"dpoframe_loss_terms of the plugin 'misreturning' must return"):
        run("terms", "plugins=[toy, parts, misreturning]")


def test_steps_done_are_the_steps_told(run: Any) -> None:
    """A run that Lightning ends early (max_time) says how many steps it did, not how many it meant to do."""
    result = run("timed", "trainer.max_steps=100000", "trainer.save_every=100000", "trainer.lightning.max_time=00:00:00:01")
    assert 0 < result.steps < 100000


def test_a_missing_precision_package_is_the_machines(run: Any) -> None:
    """A precision whose package is not installed ends with what to install."""
    with pytest.raises(MachineError, match="transformer_engine"):
        run("engine", "trainer.precision=transformer-engine")


def test_an_optimizer_for_matrices_only(run: Any) -> None:
    """An optimizer that refuses the model's parameters is named as the fault."""
    with pytest.raises(ConfigError, match=r"trainer\.optimizer 'muon' does not take"):
        run("muon", "trainer.optimizer=muon", "trainer.precision=32-true")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_closed_folder(run: Any, tmp_path: Path) -> None:
    """No permission is the machine's lack, told in one message."""
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(MachineError, match=r"cannot be made.*--out"):
        run("closed/run")
