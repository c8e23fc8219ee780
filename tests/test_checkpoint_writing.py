"""Checkpoints on a disk without room, and in the background."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dpoframe import MachineError
from dpoframe.checkpoint import BackgroundCheckpointIO, CheckpointFolder, DurableCheckpointIO
from dpoframe.checkpoint.background import copied
from dpoframe.checkpoint.room import SPARE, tensor_bytes


def state(step: int, size: int = 4) -> dict[str, Any]:
    """A checkpoint with one tensor."""
    return {"global_step": step, "weight": torch.full((size,), float(step))}


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    """Two whole checkpoints."""
    made = CheckpointFolder(tmp_path / "checkpoints")
    for step in (1, 2):
        DurableCheckpointIO().save_checkpoint(state(step), made.at(step))
    return made


def disk(monkeypatch: pytest.MonkeyPatch, *free: int) -> None:
    """A disk that has `free` bytes left each time it is asked."""
    answers = iter(free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=next(answers)))


def test_a_disk_without_room_is_told_before_anything_is_written(folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest checkpoint stays; of the new one there is no byte, and the message has both sizes."""
    disk(monkeypatch, SPARE, SPARE)
    with pytest.raises(MachineError, match=r"needs about 12 MiB, and its disk has 4 MiB left.*is intact\. Make room and resume"):
        DurableCheckpointIO().save_checkpoint(state(3, 2 << 20), folder.at(3))
    assert folder.steps() == [2]
    assert folder.latest() == folder.at(2)
    assert sorted(file.name for file in folder.path.iterdir()) == ["step-00000002.ckpt", "step-00000002.json"]


def test_no_checkpoint_is_promised_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first checkpoint of a run does not fit: nothing is said of one before it."""
    disk(monkeypatch, 0, 0)
    with pytest.raises(MachineError, match=r"Nothing was written\. Make room and resume"):
        DurableCheckpointIO().save_checkpoint(state(1), CheckpointFolder(tmp_path).at(1))


def test_older_checkpoints_give_way(folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where removing all but the newest makes the room, the new one is written."""
    disk(monkeypatch, 0, SPARE + 16)
    DurableCheckpointIO().save_checkpoint(state(3), folder.at(3))
    assert folder.steps() == [2, 3]


def test_bytes_of_shared_tensors_count_once() -> None:
    """4 floats, a view of them, and 3 bytes in a list in a mapping: 16 + 3."""
    weight = torch.zeros(4)
    assert tensor_bytes({"a": weight, "b": [weight[:2], {"c": (torch.zeros(3, dtype=torch.uint8), "text", 1)}]}) == 19


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Holds every write back until the event is set."""
    gate, plain = threading.Event(), torch.save

    def late(value: Any, file: Any) -> None:
        assert gate.wait(20)
        plain(value, file)

    monkeypatch.setattr(torch, "save", late)
    yield gate
    gate.set()


def test_a_background_save_is_a_copy_of_its_moment(tmp_path: Path, gated: threading.Event) -> None:
    """The save comes back before a byte is written; what training changes meanwhile is not in it."""
    writer, folder, weight = BackgroundCheckpointIO(), CheckpointFolder(tmp_path), torch.ones(4)
    writer.save_checkpoint({"global_step": 1, "weight": weight, "same": weight}, folder.at(1))
    assert folder.steps() == []
    weight.mul_(7)
    gated.set()
    writer.wait()
    found = DurableCheckpointIO().load_checkpoint(folder.latest())
    assert found["weight"].tolist() == found["same"].tolist() == [1, 1, 1, 1]


def test_one_background_save_is_in_flight(tmp_path: Path, gated: threading.Event) -> None:
    """The second save waits for the first, so that no more than one copy is held."""
    writer, folder = BackgroundCheckpointIO(), CheckpointFolder(tmp_path)
    writer.save_checkpoint(state(1), folder.at(1))
    second = threading.Thread(target=writer.save_checkpoint, args=(state(2), folder.at(2)))
    second.start()
    second.join(0.2)
    assert second.is_alive()
    gated.set()
    second.join(20)
    writer.wait()
    assert folder.steps() == [1, 2]


def test_what_fails_in_the_background_is_raised(folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk shows at the next save or at the end, once; the checkpoint before is whole."""
    disk(monkeypatch, 0, 0)
    writer = BackgroundCheckpointIO()
    writer.save_checkpoint(state(3), folder.at(3))
    with pytest.raises(MachineError, match="disk has 0 MiB left"):
        writer.teardown()
    writer.teardown()
    assert not writer.failed
    assert folder.latest() == folder.at(2)


def test_a_failure_is_known_at_once(folder: CheckpointFolder, gated: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has failed while it is being written, nor where it was written; what fails is known once it has."""
    writer = BackgroundCheckpointIO()
    assert not writer.failed
    writer.save_checkpoint(state(3), folder.at(3))
    assert not writer.failed
    gated.set()
    writer.wait()
    assert not writer.failed
    disk(monkeypatch, 0, 0)
    writer.save_checkpoint(state(4), folder.at(4))
    until = time.monotonic() + 20
    while not writer.failed and time.monotonic() < until:
        time.sleep(0.01)
    assert writer.failed
    with pytest.raises(MachineError, match="disk has 0 MiB left"):
        writer.wait()
    assert not DurableCheckpointIO().failed


def test_copies_keep_what_is_shared_apart_from_the_original() -> None:
    """Containers of every kind are made anew, a tensor that stands in two places is copied once, numbers are passed on."""
    weight = torch.ones(2)
    made = copied({"a": [weight], "b": (weight, 3), "c": {"d": "text"}})
    assert made["a"][0] is made["b"][0]
    assert made["a"][0] is not weight
    assert made["b"][1:] == (3,)
    assert made["c"] == {"d": "text"}
