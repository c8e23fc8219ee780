"""A disk that is full when a checkpoint is written: a word, an end, the checkpoint before as it was, and the same end later."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from dpoframe import MachineError
from dpoframe.checkpoint import CheckpointFolder

EVERY = ("trainer.max_steps=6", "trainer.save_every=1", "trainer.keep_checkpoints=2")


def full_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full half-way through the checkpoint of that step."""
    plain = torch.save

    def save(checkpoint: Any, file: Any, *given: Any, **named: Any) -> None:
        if isinstance(checkpoint, dict) and checkpoint.get("global_step") == step:
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
