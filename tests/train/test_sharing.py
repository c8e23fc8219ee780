"""`dpoframe data reference` on several devices: the scores of one, bit for bit, and one report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

import dpoframe
from dpoframe.errors import ConfigError
from dpoframe.train.sharing import SharingStrategy, sharing_trainer, together

TOY = Path(dpoframe.__file__).parent / "testing" / "toy.py"
SLOW = """
import os
import time
from dataclasses import dataclass
from pathlib import Path
from dpoframe.testing.toy import ToyModality


@dataclass(frozen=True)
class Slow(ToyModality):
    '''The toy, whose scores depend a little on what shares their batch, as those of real models do.'''

    pause: float = 0.0

    def score(self, model, batch):
        if self.pause:
            Path(f"begun-{os.environ.get('LOCAL_RANK')}").write_text(str(os.getpid()))
        time.sleep(self.pause)
        found = super().score(model, batch)
        return type(found)(found.value + found.value.sum() * 1e-4, found.length)

    def fingerprint(self):
        return {name: value for name, value in super().fingerprint().items() if name != "pause"}
"""
RECIPE = f"""
modality: {{name: ./slow.py:Slow}}
data: {{name: '{TOY}:toy_dataset', count: 50}}
loss: {{name: kto}}
reference: {{kind: cached}}
trainer: {{max_epochs: 1, batch_size: 4, accelerator: cpu}}
"""


def test_one_device_starts_no_process(make_recipe: Any) -> None:
    """The work is done here and now, and its result comes back."""
    trainer = sharing_trainer(make_recipe().trainer)
    assert isinstance(trainer.strategy, SingleDeviceStrategy)
    assert together(trainer, lambda: 7) == 7


@pytest.mark.parametrize("strategy", ["auto", "ddp", "ddp_fork", "fsdp"])
def test_devices_of_the_recipe_share_whatever_trains(strategy: str, make_recipe: Any) -> None:
    """Each device has a process with the whole model, which waits through gloo as long as it takes."""
    trainer = sharing_trainer(make_recipe("trainer.devices=3", f"trainer.strategy={strategy}").trainer)
    assert isinstance(trainer.strategy, SharingStrategy)
    assert (trainer.world_size, trainer.strategy.process_group_backend) == (3, "gloo")
    assert trainer.strategy._timeout > timedelta(days=1)
    trainer.strategy.barrier("nobody else is there yet")


def test_a_launcher_with_another_number_of_processes(make_recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that torchrun started would each do everything: they are told what to set."""
    given = {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    for name, value in (given | {"GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"started 2 processes.*asks for 1.*--set trainer\.devices=2"):
        sharing_trainer(make_recipe().trainer)


def test_a_notebook_is_one_process(make_recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no command line to start again, the recipe's first device does the work."""
    from lightning.pytorch.trainer.connectors import accelerator_connector

    monkeypatch.setattr(accelerator_connector, "_IS_INTERACTIVE", True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert sharing_trainer(make_recipe("trainer.devices=2").trainer).world_size == 1


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the recipe."""
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def started(place: Path, folder: str, *changes: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """The command as a process of its own, which keeps its scores in a folder."""
    line = [*(launcher or (sys.executable,)), "-m", "dpoframe", "data", "reference", "recipe.yaml", "--json"]
    words = [word for change in (f"reference.folder={folder}", *changes) for word in ("--set", change)]
    given = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*line, *words], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=given)


def done(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The one document that the command gives."""
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def scores(folder: Path) -> tuple[dict[str, dict[str, float]], int]:
    """All scores by name, and the number of files; no score is there twice."""
    files = list(folder.glob("*/part-*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    found = {row.pop("key"): row for row in rows}
    assert len(found) == len(rows)
    return found, len(files)


@pytest.mark.slow
def test_two_processes_give_the_scores_of_one(place: Path) -> None:
    """Lightning's own two, and torchrun's: the same floats, half of them from either process."""
    one = done(started(place, "one"))
    two = done(started(place, "two", "trainer.devices=2"))
    torchrun = (str(Path(sys.executable).parent / "torchrun"), "--nproc-per-node", "2")
    three = done(started(place, "three", "trainer.devices=2", launcher=torchrun))
    assert (one["computed"], one["scores"]) == (50, len(scores(place / "one")[0]))
    assert {name: value for name, value in two.items() if name != "folder"} == {"computed": 50, "scores": one["scores"]}
    assert three["scores"] == one["scores"]
    assert scores(place / "two")[0] == scores(place / "three")[0] == scores(place / "one")[0]
    assert [scores(place / name)[1] for name in ("one", "two", "three")] == [1, 2, 2]
    assert done(started(place, "two"))["computed"] == 0


@pytest.mark.slow
def test_a_killed_process(place: Path) -> None:
    """The first says what became of the other, and the same command goes on."""
    process = started(place, "two", "trainer.devices=2", "modality.pause=3")
    other, deadline = place / "begun-1", time.monotonic() + 180
    while not (other.exists() and other.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(int(other.read_text()), signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    assert "Process 1 was ended from outside (SIGKILL)" in err
    assert (json.loads(out)["error"]["exit_code"], "Traceback" in err) == (3, False)
    done(started(place, "two", "trainer.devices=2"))
    done(started(place, "one"))
    assert scores(place / "two")[0].keys() == scores(place / "one")[0].keys()
