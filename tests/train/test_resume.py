"""A run that was broken off and resumed ends where an unbroken one ends, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from dpoframe import CheckpointError, ConfigError, DataError, hookimpl
from dpoframe.train.interruption import SIGNALS
from dpoframe.train.saving import default_interval

DROPOUT = "ignore:At the first step policy and reference should be equal:RuntimeWarning"


class Interrupter(Callback):
    """Sends this process signals during a step."""

    def __init__(self, step: int, numbers: tuple[int, ...]) -> None:
        self.step, self.numbers = step, numbers

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        """Sends them."""
        if trainer.global_step == self.step:
            for number in self.numbers:
                os.kill(os.getpid(), number)


class InterruptingPlugin:
    """A plugin that interrupts the run in its third step, once."""

    def __init__(self, *numbers: int) -> None:
        self.callback: list[Callback] = [Interrupter(2, numbers)]

    @hookimpl
    def dpoframe_callbacks(self, config: Any) -> list[Callback]:
        """The callback, for the first run only."""
        made, self.callback = self.callback, []
        return made


@pytest.mark.filterwarnings(DROPOUT)
@pytest.mark.parametrize(
    ("reference", "loss"), [("copy", "sigmoid"), ("ema", "sigmoid"), ("cached", "bco_pair"), ("copy", "kto")], ids=str
)
def test_an_interrupted_run_goes_on_exactly(reference: str, loss: str, host: Any, run: Any, look: Any) -> None:
    """With dropout, a moving reference, a loss with a memory, and one that scores twice: Ctrl-C, resume, same end."""
    sections = {"loss": {"name": loss}, "reference": {"kind": reference}}
    changes = ("modality.dropout=0.3", "trainer.max_steps=6", "data.validation=0.25", "trainer.validate_every=3")
    whole = run("whole", *changes, **sections)
    host.register(InterruptingPlugin(signal.SIGINT), "interrupting")
    named = "plugins=[toy, parts, interrupting]"
    broken = run("broken", *changes, named, **sections)
    assert (broken.status, broken.exit_code, broken.steps) == ("interrupted", 130, 3)
    assert not broken.model.exists()
    resumed = run("broken", *changes, named, resume=True, **sections)
    assert resumed.status == "finished"
    assert look.rows(resumed) == look.rows(whole)
    assert look.rows(resumed, "validation") == look.rows(whole, "validation")
    assert all(torch.equal(value, look.weights(whole)[name]) for name, value in look.weights(resumed).items())


@pytest.mark.parametrize(
    ("numbers", "code"),
    [([signal.SIGTERM], 143), ([signal.SIGHUP], 129), ([signal.SIGHUP] * 2, 129), ([signal.SIGINT, signal.SIGHUP], 130)],
    ids=["SIGTERM", "SIGHUP", "SIGHUP twice", "SIGINT and SIGHUP"],
)
def test_a_signal_saves_and_reports_its_number(numbers: list[int], code: int, host: Any, run: Any, tmp_path: Path) -> None:
    """SIGTERM and SIGHUP, which a closing terminal repeats, end the run after the step, with a checkpoint and the first's code."""
    before = [signal.getsignal(number) for number in SIGNALS]
    host.register(InterruptingPlugin(*numbers), "interrupting")
    result = run("run", "trainer.max_steps=6", "plugins=[toy, parts, interrupting]")
    assert (result.status, result.exit_code, result.steps) == ("interrupted", code, 3)
    assert (tmp_path / "run" / "checkpoints" / "step-00000003.ckpt").is_file()
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_sighup_that_is_ignored_stays_so(host: Any, run: Any) -> None:
    """Under nohup a closing terminal does not end the run."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        host.register(InterruptingPlugin(signal.SIGHUP), "interrupting")
        assert run("run", "trainer.max_steps=6", "plugins=[toy, parts, interrupting]").status == "finished"
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.filterwarnings("ignore:The checkpoint .* is passed over:RuntimeWarning")
def test_a_broken_checkpoint_is_passed_over(run: Any, look: Any, tmp_path: Path) -> None:
    """With the newest checkpoint cut off, the run goes on from the one before and still ends the same."""
    whole = run("whole", "trainer.max_steps=6", "trainer.save_every=2")
    shutil.rmtree(whole.model)
    newest = tmp_path / "whole" / "checkpoints" / "step-00000006.ckpt"
    expected = look.rows(whole)
    newest.write_bytes(newest.read_bytes()[:-100])
    resumed = run("whole", "trainer.max_steps=6", "trainer.save_every=2", resume=True)
    assert look.rows(resumed) == expected
    assert resumed.status == "finished"


def test_a_run_that_ended_before_its_export_only_exports(run: Any, look: Any) -> None:
    """Killed between the last checkpoint and the model: resuming writes the model and no further row."""
    whole = run("whole")
    before, kept = look.rows(whole), look.weights(whole)
    shutil.rmtree(whole.model)
    run("whole", resume=True)
    assert look.rows(whole) == before
    assert all(torch.equal(value, kept[name]) for name, value in look.weights(whole).items())


def test_resume_is_refused_where_it_makes_no_sense(run: Any) -> None:
    """No run, a finished run, another recipe, a folder in use: each says what to do."""
    with pytest.raises(CheckpointError, match="no run to resume"):
        run("nothing", resume=True)
    done = run("done")
    with pytest.raises(CheckpointError, match="is finished"):
        run("done", resume=True)
    with pytest.raises(ConfigError, match=r"a run in .* already, which is finished"):
        run("done")
    shutil.rmtree(done.model)
    with pytest.raises(ConfigError, match=r"trainer\.lr: the run has 0\.02, the recipe now says 0\.5"):
        run("done", "trainer.lr=0.5", resume=True)
    with pytest.raises(ConfigError, match="plugins: the run has"):  # a plugin may add to the loss
        run("done", "plugins=[toy]", resume=True)


def test_resume_is_refused_where_the_data_changed(run: Any, look: Any, tmp_path: Path) -> None:
    """A data file that was edited since the run began is named; once it is put back the run goes on to the same end."""
    file = tmp_path / "pairs.jsonl"
    data = {"name": "jsonl", "path": str(file)}
    lines = [json.dumps({"prompt": f"say {n}", "chosen": "a" * (n + 1), "rejected": "b" * (n + 1)}) for n in range(8)]
    file.write_text("\n".join(lines))
    whole = run("whole", data=data)
    expected = look.rows(whole)
    shutil.rmtree(whole.model)
    file.write_text("\n".join(lines).replace("bbbb", "cccc"))
    with pytest.raises(DataError, match=rf"{file}\) has 8 usable pairs as before, but not the same ones(.|\n)*Put the data back"):
        run("whole", data=data, resume=True)
    file.write_text("\n".join(lines[:7]))
    with pytest.raises(DataError, match="had 8 usable pairs, and has 7 now"):
        run("whole", data=data, resume=True)
    file.write_text("\n".join(lines))
    assert run("whole", data=data, resume=True).status == "finished"
    assert look.rows(whole) == expected


def test_two_ranks_resume_exactly(run: Any, look: Any, tmp_path: Path) -> None:
    """Each rank takes its own generator's state back."""
    changes = ("trainer.max_steps=4", "trainer.save_every=2", "trainer.devices=2", "trainer.strategy=ddp_fork")
    whole = run("whole", *changes)
    expected, kept = look.rows(whole), look.weights(whole)
    shutil.rmtree(whole.model)
    for left in (tmp_path / "whole" / "checkpoints").glob("step-00000004.*"):
        left.unlink()
    run("whole", *changes, resume=True)
    assert look.rows(whole) == expected
    assert all(torch.equal(value, kept[name]) for name, value in look.weights(whole).items())


KILLED = """
import os, signal, sys
from pathlib import Path
from lightning.pytorch.callbacks import Callback
from dpoframe import hookimpl
from dpoframe.config import load_recipe
from dpoframe.plugins import PluginHost
from dpoframe.testing import toy
from dpoframe.train.fit import fit

class Killing(Callback):
    def on_train_batch_start(self, trainer, *args):
        if trainer.global_step == 17:
            os.kill(os.getpid(), signal.SIGKILL)

    @hookimpl
    def dpoframe_callbacks(self, config):
        return [self]

host = PluginHost(entry_points=[])
host.register(toy, "toy")
host.register(Killing(), "parts")
fit(load_recipe(sys.argv[1], host=host), sys.argv[2], host=host)
"""


def test_a_killed_run_loses_a_tenth(run: Any, make_recipe: Any, look: Any, tmp_path: Path) -> None:
    """SIGKILL in step 17 of 40, with no save_every in the recipe: two checkpoints are left, and it resumes to the same end."""
    sections = {"modality": {"name": "toy"}, "data": {"name": "toy", "count": 20}}
    whole = run("whole", "trainer.max_steps=40", **sections)
    assert sorted(file.name for file in (whole.folder / "checkpoints").glob("*.ckpt")) == [
        "step-00000036.ckpt",
        "step-00000040.ckpt",
    ]
    (tmp_path / "recipe.yaml").write_text(make_recipe("trainer.max_steps=40", **sections).to_yaml())
    command = [sys.executable, "-c", KILLED, str(tmp_path / "recipe.yaml"), str(tmp_path / "killed")]
    assert subprocess.run(command, check=False, timeout=120, capture_output=True).returncode == -signal.SIGKILL
    left = sorted(file.name for file in (tmp_path / "killed" / "checkpoints").glob("*.ckpt"))
    assert left == ["step-00000012.ckpt", "step-00000016.ckpt"]
    resumed = run("killed", "trainer.max_steps=40", resume=True, **sections)
    assert look.rows(resumed) == look.rows(whole)
    assert all(torch.equal(value, look.weights(whole)[name]) for name, value in look.weights(resumed).items())


@pytest.mark.parametrize(("steps", "every"), [(1, 1), (3, 1), (10, 1), (11, 2), (60, 6), (1000, 100)])
def test_ten_checkpoints_a_run(steps: int, every: int) -> None:
    """A tenth of the run, in whole steps, and never none."""
    assert default_interval(steps) == every


def test_checkpoints_in_the_background_are_the_same(host: Any, run: Any, look: Any, tmp_path: Path) -> None:
    """Interrupted and resumed with background saves, a run has the rows, weights and checkpoints of a plain one."""
    changes = ("trainer.max_steps=8", "trainer.save_every=1")
    whole = run("whole", *changes)
    host.register(InterruptingPlugin(signal.SIGTERM), "interrupting")
    named = ("trainer.save_in_background=true", "plugins=[toy, parts, interrupting]")
    assert run("broken", *changes, *named).exit_code == 143
    resumed = run("broken", *changes, *named, resume=True)
    assert look.rows(resumed) == look.rows(whole)
    assert all(torch.equal(value, look.weights(whole)[name]) for name, value in look.weights(resumed).items())
    names = [sorted(file.name for file in (tmp_path / name / "checkpoints").iterdir()) for name in ("whole", "broken")]
    assert names[0] == names[1]


class RankInterrupter(Callback):
    """Sends SIGTERM, in the third step, to one rank or to the process that forked both."""

    def __init__(self, whom: str) -> None:
        self.whom = whom

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        """Sends it."""
        if trainer.global_step == 2 and trainer.global_rank == (self.whom == "second"):
            os.kill(os.getppid() if self.whom == "launcher" else os.getpid(), signal.SIGTERM)
            time.sleep(0.5 * (self.whom == "launcher"))  # until it was passed on


@pytest.mark.parametrize("whom", ["first", "second", "launcher"])
def test_forked_ranks_end_as_one(whom: str, host: Any, run: Any, look: Any) -> None:
    """SIGTERM to either rank, or to the process that forked them: both end after the same step, with 143, and go on exactly."""
    changes = ("trainer.max_steps=6", "trainer.devices=2", "trainer.strategy=ddp_fork")
    whole = run("whole", *changes)
    plugin = InterruptingPlugin()
    plugin.callback = [RankInterrupter(whom)]
    host.register(plugin, "interrupting")
    broken = run("broken", *changes, "plugins=[toy, parts, interrupting]")
    assert (broken.status, broken.exit_code, broken.steps) == ("interrupted", 143, 3)
    resumed = run("broken", *changes, "plugins=[toy, parts, interrupting]", resume=True)
    assert look.rows(resumed) == look.rows(whole)
    assert all(torch.equal(value, look.weights(whole)[name]) for name, value in look.weights(resumed).items())
