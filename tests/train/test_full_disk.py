"""A disk that is full when a checkpoint is written: a word, an end, the checkpoint before as it was, and the same end later."""

from __future__ import annotations

import errno
import os
import signal
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest
import torch

from dpoframe import MachineError
from dpoframe.checkpoint import BackgroundCheckpointIO, CheckpointFolder
from dpoframe.testing import in_ranks
from dpoframe.train.fit import fit
from dpoframe.train.interruption import ask_to_end

EVERY = ("trainer.max_steps=6", "trainer.save_every=1", "trainer.keep_checkpoints=2")


def full_at(step: int, monkeypatch: pytest.MonkeyPatch, rank: str | None = None) -> None:
    """The disk is full half-way through the checkpoint of that step, or through one rank's part of it."""
    plain = torch.save

    def save(checkpoint: Any, file: Any, *given: Any, **named: Any) -> None:
        here = rank is None or os.environ.get("RANK") == rank
        if here and isinstance(checkpoint, dict) and checkpoint.get("global_step") == step:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(checkpoint, file, *given, **named)

    monkeypatch.setattr(torch, "save", save)


@pytest.mark.parametrize("step", [3, 6], ids=["on the way", "the last"])
@pytest.mark.parametrize("background", ["false", "true"], ids=["plain", "background"])
def test_the_run_ends_with_a_word(
    background: str, step: int, run: Any, look: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the checkpoint is written while training goes on, and where it is the last one: no model is written then."""
    changes = (*EVERY, f"trainer.save_in_background={background}")
    whole = run("whole", *changes)
    with monkeypatch.context() as patch:
        full_at(step, patch)
        with pytest.raises(MachineError, match=rf"step-0000000{step}.ckpt could not be written \(No space left on device\)"):
            run("run", *changes)
    kept = CheckpointFolder(tmp_path / "run" / "checkpoints")
    assert kept.latest() == kept.at(step - 1)
    assert not list(kept.path.glob(".*"))
    assert not (tmp_path / "run" / "model").exists()
    again = run("run", *changes, resume=True)
    assert look.rows(again) == look.rows(whole)
    assert all(torch.equal(value, look.weights(whole)[name]) for name, value in look.weights(again).items())


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
@pytest.mark.parametrize("background", ["false", "true"], ids=["plain", "background"])
def test_no_rank_waits(background: str, run: Any, look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two ranks the first writes: where it cannot, the other ends as well, and the run goes on from the step before."""
    changes = (*EVERY, "trainer.devices=2", "trainer.strategy=ddp_fork", f"trainer.save_in_background={background}")
    with monkeypatch.context() as patch:
        full_at(3, patch)
        with pytest.raises(Exception, match="No space left on device"):
            run("run", *changes)
    again = run("run", *changes, resume=True)
    assert [row["step"] for row in look.rows(again)] == list(range(6))


def seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A save in the background is over when the next step begins."""
    plain = BackgroundCheckpointIO.save_checkpoint

    def save(self: BackgroundCheckpointIO, *given: Any, **named: Any) -> None:
        plain(self, *given, **named)
        assert self._writing is not None
        wait([self._writing])

    monkeypatch.setattr(BackgroundCheckpointIO, "save_checkpoint", save)


def test_a_failure_in_the_background_ends_the_next(run: Any, look: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the next save, which may be hours away: saved after the second step, the run ends with the third of six."""
    seen_at_once(monkeypatch)
    full_at(2, monkeypatch)
    with pytest.raises(MachineError, match="No space left on device"):
        run("run", "trainer.max_steps=6", "trainer.save_every=2", "trainer.save_in_background=true")
    assert [row["step"] for row in look.rows(tmp_path / "run")] == [0, 1, 2]


@pytest.mark.parametrize(("step", "rows"), [(2, 3), (6, 6)], ids=["on the way", "the last"])
def test_a_part_that_cannot_be_written_ends_all(
    step: int, rows: int, make_recipe: Any, host: Any, look: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a split model the second rank writes a part of its own: where it fails both end with its words, and none exports."""
    seen_at_once(monkeypatch)
    full_at(step, monkeypatch, rank="1")
    split = ("trainer.devices=2", "trainer.strategy=fsdp", "trainer.save_in_background=true")

    def fails() -> None:
        with pytest.raises(MachineError, match=r"part-00001-of-00002\.ckpt could not be written \(No space left on device\)"):
            fit(make_recipe("trainer.max_steps=6", "trainer.save_every=2", *split), tmp_path / "run", host=host)

    in_ranks(fails)
    assert [row["step"] for row in look.rows(tmp_path / "run")] == list(range(rows))
    assert not (tmp_path / "run" / "model").exists()
    kept = CheckpointFolder(tmp_path / "run" / "checkpoints")
    assert kept.steps() == [one for one in (2, 4) if one < step]


@pytest.mark.parametrize("rank", ["0", "1"])
def test_an_interrupted_run_waits_for_every_part(
    rank: str, make_recipe: Any, host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint that an interruption asks for is written, or the run does not say that it was: on no rank."""
    full_at(1, monkeypatch, rank)
    split = ("trainer.devices=2", "trainer.strategy=fsdp", "trainer.save_in_background=true", "trainer.max_steps=6")

    def fails() -> None:
        ask_to_end(signal.SIGTERM)
        with pytest.raises(MachineError, match="No space left on device"):
            fit(make_recipe(*split), tmp_path / "run", host=host)

    in_ranks(fails)
