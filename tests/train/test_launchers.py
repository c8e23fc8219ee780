"""torchrun, and the page's SLURM script under a stand-in for srun, give the losses of one process."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import dpoframe

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
TOY = Path(dpoframe.__file__).parent / "testing" / "toy.py"
RECIPE = f"""
modality: {{name: '{TOY}:ToyModality'}}
data: {{name: '{TOY}:toy_dataset', count: 20}}
trainer: {{max_steps: 6, batch_size: 4, lr: 0.01, accelerator: cpu, devices: 1}}
"""
# What SLURM tells each of two tasks of one node.
SRUN = """#!{python}
import os, subprocess, sys
assert sys.argv[1] == "--kill-on-bad-exit=1"
tasks = []
for rank in range(2):
    told = dict(SLURM_NTASKS="2", SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), SLURM_NODEID="0", SLURM_JOB_ID="7",
                SLURM_JOB_NAME="align", SLURM_JOB_NODELIST="localhost", SLURM_NTASKS_PER_NODE="2", MASTER_ADDR="127.0.0.1",
                MASTER_PORT="{port}")
    tasks.append(subprocess.Popen(sys.argv[2:], env=os.environ | told))
sys.exit(max(task.wait() for task in tasks))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the recipe."""
    (tmp_path / "chat.yaml").write_text(RECIPE)
    return tmp_path


def ran(place: Path, *command: str, **more: str) -> None:
    """Runs a command in the folder; its message where it fails."""
    path = os.pathsep.join([str(place), str(Path(sys.executable).parent), os.environ["PATH"]])
    made = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", **more}
    done = subprocess.run(command, cwd=place, env=made, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def losses(run: Path) -> list[float]:
    """Of each step."""
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_torchrun(strategy: str, place: Path) -> None:
    """Two processes that torchrun starts write one run, with the losses of one process; as whole copies and split."""
    ran(place, sys.executable, "-m", "dpoframe", "train", "chat.yaml", "--out", "one")
    options = ["--set", "trainer.devices=2", "--set", f"trainer.strategy={strategy}"]
    ran(place, "torchrun", "--nproc-per-node", "2", "-m", "dpoframe", "train", "chat.yaml", "--out", "two", *options)
    assert losses(place / "two") == pytest.approx(losses(place / "one"), rel=1e-6)
    assert (place / "two" / "model" / "model.safetensors").is_file()


def test_the_slurm_script(place: Path) -> None:
    """The script of the page, its numbers set to two tasks on one node."""
    found = re.search(r"```bash file=align\.sbatch\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found, "docs/scale.md has lost its script"
    script = found[1].replace("num_nodes=2", "num_nodes=1").replace("devices=4", "devices=2")
    (place / "align.sbatch").write_text(script)
    srun = place / "srun"
    srun.write_text(SRUN.format(python=sys.executable, port=29_400 + os.getpid() % 1000))
    srun.chmod(srun.stat().st_mode | stat.S_IXUSR)
    ran(place, sys.executable, "-m", "dpoframe", "train", "chat.yaml", "--out", "one")
    ran(place, "bash", "align.sbatch")
    assert losses(place / "runs" / "chat") == pytest.approx(losses(place / "one"), rel=1e-6)
