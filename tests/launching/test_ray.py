"""On a real Ray of this machine with two workers: the losses of one process, and no difference where workers are killed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dpoframe.train.cache import ScoreStore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason='needs Ray: pip install "dpoframe[ray]"'),
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two workers need two processors"),
]

STEPS = 12
MODALITY = '''
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from dpoframe.testing.toy import ToyModality, toy_pairs

calls = 0


@dataclass(frozen=True)
class Mortal(ToyModality):
    """The toy. A process kills itself where the folder beside this file holds a file with its rank, after so many scorings."""

    def score(self, model, batch):
        global calls
        calls += 1
        order = Path(__file__).with_name("orders") / os.environ.get("RANK", "any")
        if calls > 9 or order.name == "any":
            try:
                order.unlink()
            except FileNotFoundError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(float(os.environ.get("DPOFRAME_TEST_PAUSE", "0")))
        return super().score(model, batch)


def pairs(count: int = 20):
    return toy_pairs(count)
'''
RECIPE = f"""
modality: {{name: './mortal.py:Mortal', dropout: 0.1}}
data: {{name: './mortal.py:pairs'}}
trainer: {{max_steps: {STEPS}, batch_size: 4, lr: 0.01, accelerator: cpu, save_every: 1}}
"""


class Place:
    """A folder with a recipe, a Ray that keeps its files apart, and whatever the tests of this file have run in it."""

    def __init__(self, folder: Path, ray: Path) -> None:
        self.folder, self.ray = folder, ray
        (folder / "mortal.py").write_text(MODALITY)
        (folder / "chat.yaml").write_text(RECIPE)
        self.orders = folder / "orders"
        self.orders.mkdir()

    def start(self, *words: str, **more: str) -> subprocess.Popen[str]:
        """Starts a command in it."""
        made = os.environ | {
            "OMP_NUM_THREADS": "1",
            "RAY_TMPDIR": str(self.ray),
            "DPOFRAME_CACHE": str(self.folder / "cache"),
        }
        made.pop("RAY_ADDRESS", None)
        command = [sys.executable, "-m", "dpoframe", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.folder, env=made | more, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )

    def ran(self, *words: str, code: int = 0, **more: str) -> tuple[dict[str, Any], str]:
        """Runs a command with --json; its document and what it said. No process of Ray is left."""
        return self.ended(self.start(*words, "--json", **more), code)

    def ended(self, process: subprocess.Popen[str], code: int) -> tuple[dict[str, Any], str]:
        """Waits for a command."""
        try:
            out, err = process.communicate(timeout=280)
        finally:
            process.kill()
        assert process.returncode == code, err[-4000:]
        until = time.monotonic() + 30
        while (left := self.left()) and time.monotonic() < until:
            time.sleep(0.2)
        assert not left
        return json.loads(out), err

    def left(self) -> list[str]:
        """Processes whose command line names Ray's folder."""
        lines = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                lines.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
        return [line for line in lines if str(self.ray) in line]

    def losses(self, run: str) -> list[float]:
        """Of each step."""
        return [json.loads(line)["loss"] for line in (self.folder / run / "metrics.jsonl").read_text().splitlines()]

    def same(self, run: str, other: str) -> bool:
        """Whether two runs ended with the same weights, bit by bit, and logged the same losses."""
        first, second = (load_file(str(self.folder / name / "model" / "model.safetensors")) for name in (run, other))
        equal = first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())
        return equal and self.losses(run) == self.losses(other)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for all tests. Ray's folder has a short name: sockets lie in it."""
    ray = Path(tempfile.mkdtemp(prefix="ray-"))
    yield Place(tmp_path_factory.mktemp("ray"), ray)
    shutil.rmtree(ray, ignore_errors=True)


@pytest.fixture(scope="module")
def whole(place: Place) -> str:
    """A run of two workers that nothing happened to, with dropout."""
    document, _ = place.ran("ray", "train", "chat.yaml", "--out", "whole")
    assert (document["status"], document["steps"], document["tries"]) == ("finished", STEPS, 1)
    assert sorted(path.name for path in (place.folder / "whole").iterdir() if path.name.startswith(".")) == []
    return "whole"


@pytest.mark.parametrize("strategy", ["auto", "fsdp"])
def test_losses_are_those_of_one_process(strategy: str, place: Place) -> None:
    """Two workers, each with the whole model or with half of it, against one plain process: every loss within 1e-6, relative."""
    plain, one, two = ["--set", "modality.dropout=0"], f"one-{strategy}", f"two-{strategy}"
    place.ran("train", "chat.yaml", "--out", one, *plain, "--set", "trainer.devices=1")
    place.ran("ray", "train", "chat.yaml", "--out", two, *plain, "--set", f"trainer.strategy={strategy}")
    assert len(place.losses(two)) == STEPS
    assert place.losses(two) == pytest.approx(place.losses(one), rel=1e-6)


def test_killed_workers(place: Place, whole: str) -> None:
    """SIGKILL to one worker of the first try, and to the one that writes the run folder in the second: nothing differs."""
    (place.orders / "1").touch()
    process = place.start("ray", "train", "chat.yaml", "--out", "killed", "--json")
    while (place.orders / "1").exists() and process.poll() is None:
        time.sleep(0.1)
    time.sleep(3)  # the first try has ended, and the second is still being started
    (place.orders / "0").touch()
    document, said = place.ended(process, 0)
    assert (document["status"], document["steps"], document["tries"]) == ("finished", STEPS, 3)
    assert "for try 3" in said
    assert place.same("killed", whole)


def test_lost_too_often(place: Place) -> None:
    """Without retries the command fails, says so, and the run can go on."""
    (place.orders / "1").touch()
    document, _ = place.ran("ray", "train", "chat.yaml", "--out", "lost", "--retries", "0", code=3)
    assert "--resume" in document["error"]["message"]
    assert (place.folder / "lost" / "recipe.yaml").is_file()


def test_sigterm_and_resume(place: Place, whole: str) -> None:
    """The command's workers finish the step, save, and it exits with 143; with --resume it ends as the unbroken run did."""
    process = place.start("ray", "train", "chat.yaml", "--out", "stopped", "--json", DPOFRAME_TEST_PAUSE="0.3")
    metrics = place.folder / "stopped" / "metrics.jsonl"
    while process.poll() is None and not (metrics.is_file() and len(place.losses("stopped")) > 2):
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    document, said = place.ended(process, 143)
    assert document["status"] == "interrupted"
    assert 2 < document["steps"] < STEPS
    assert "--resume" in said
    place.ran("ray", "train", "chat.yaml", "--out", "stopped", "--resume")
    assert place.same("stopped", whole)


def test_an_error_that_would_come_again(place: Place) -> None:
    """What no other try would mend ends the command with the worker's message and exit code, and leaves no run folder."""
    document, _ = place.ran("ray", "train", "chat.yaml", "--out", "none", "--set", "data.count=0", code=2)
    assert document["error"]["kind"] == "WorkerError"
    assert "pair" in document["error"]["message"]
    assert not (place.folder / "none").exists()


def test_reference_scores(place: Place) -> None:
    """Two workers of Ray Data, one of them killed, keep the scores of one process, bit by bit; asked again, they do nothing."""
    options = ["--set", "data.count=60", "--set", "data.validation=0.2", "--set", "trainer.tokens_per_batch=60"]
    one, _ = place.ran("data", "reference", "chat.yaml", *options, DPOFRAME_CACHE=str(place.folder / "alone"))
    (place.orders / "any").touch()
    two, _ = place.ran("ray", "reference", "chat.yaml", *options)
    assert not (place.orders / "any").exists()
    assert (two["scores"], Path(two["folder"]).name) == (one["scores"], Path(one["folder"]).name)
    assert Path(two["folder"]).is_relative_to(place.folder / "cache")
    stores = [ScoreStore(Path(document["folder"])).read() for document in (one, two)]
    keys = list(stores[0].rows)
    scores = [store.lookup(keys) for store in stores]
    assert torch.equal(scores[0].value, scores[1].value)
    assert torch.equal(scores[0].length, scores[1].length)
    again, _ = place.ran("ray", "reference", "chat.yaml", *options)
    assert again == {**two, "computed": 0}


def test_reference_workers_lost_too_often(place: Place) -> None:
    """Ray Data alone would start a lost worker again for ever: here the command fails, and says that it can be given again."""
    (place.orders / "any").touch()
    document, _ = place.ran("ray", "reference", "chat.yaml", "--set", "data.count=44", "--retries", "0", code=3)
    assert "lost more often than --retries" in document["error"]["message"]
    assert not (place.orders / "any").exists()
