"""Checkpoints and exported models on disk."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from dpoframe import CheckpointError, MachineError, Modality
from dpoframe.checkpoint import CheckpointFolder, DurableCheckpointIO, export, open_model
from dpoframe.checkpoint.durable import durable
from dpoframe.checkpoint.pieces import part_of
from dpoframe.plugins import PluginHost, using
from dpoframe.testing import toy
from dpoframe.testing.toy import ToyModality


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    """Checkpoints of steps 1 to 3."""
    made = CheckpointFolder(tmp_path / "checkpoints")
    for step in (1, 2, 3):
        DurableCheckpointIO().save_checkpoint({"global_step": step, "weight": torch.full((4,), float(step))}, made.at(step))
    return made


def test_what_is_saved_is_loaded(folder: CheckpointFolder) -> None:
    """The newest checkpoint comes back as it was, and the manifest has its size and step."""
    latest = folder.latest()
    assert latest == folder.at(3)
    torch.testing.assert_close(DurableCheckpointIO().load_checkpoint(latest)["weight"], torch.full((4,), 3.0))
    manifest = json.loads(latest.with_suffix(".json").read_text())
    assert (manifest["bytes"], manifest["step"]) == (latest.stat().st_size, 3)


@pytest.mark.parametrize("damage", ["cut", "flipped", "manifest"])
def test_a_damaged_checkpoint_is_passed_over_with_a_word(damage: str, folder: CheckpointFolder) -> None:
    """Cut off, one bit changed, or an unreadable manifest: a warning names the file, the one before is taken."""
    newest = folder.at(3)
    content = bytearray(newest.read_bytes())
    if damage == "cut":
        newest.write_bytes(content[:-1])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        newest.write_bytes(content)
    else:
        newest.with_suffix(".json").write_text("{")
    with pytest.warns(RuntimeWarning, match=r"step-00000003\.ckpt is passed over"):
        assert folder.latest() == folder.at(2)


def test_a_checkpoint_without_its_manifest_does_not_count(folder: CheckpointFolder) -> None:
    """The manifest is written last: without it the write was broken off, and sweeping removes what is left of it."""
    folder.at(3).with_suffix(".json").unlink()
    aside = folder.path / ".step-00000004.ckpt.77.aside"
    aside.write_bytes(b"half")
    assert folder.latest() == folder.at(2)
    folder.sweep()
    assert not aside.exists()
    assert not folder.at(3).exists()
    assert folder.steps() == [1, 2]


def test_old_checkpoints_are_pruned(folder: CheckpointFolder) -> None:
    """The newest two stay, with their manifests."""
    folder.prune(2)
    assert sorted(item.name for item in folder.path.iterdir()) == [
        f"step-0000000{step}.{kind}" for step in (2, 3) for kind in ("ckpt", "json")
    ]


class Code:
    """What loading must never run."""

    def __reduce__(self) -> Any:
        return os.getcwd, ()


def test_loading_runs_no_code(tmp_path: Path) -> None:
    """A checkpoint with anything but tensors and plain values is refused."""
    file = tmp_path / "step-00000001.ckpt"
    torch.save({"evil": Code()}, file)
    with pytest.raises(CheckpointError, match="no checkpoint that can be read"):
        DurableCheckpointIO().load_checkpoint(file)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write fails half-way: one MachineError, the old content, and nothing beside it."""
    target = tmp_path / "file"
    target.write_text("old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match=r"No space left on device.*intact"), durable(target) as file:
        file.write(b"new")
    assert target.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_during_torch_save_leaves_the_old_checkpoint(folder: CheckpointFolder) -> None:
    """Torch's writer reports a full disk in its own way: also one MachineError, and the checkpoint before stays whole."""
    full = Path("/dev/full")
    if not full.is_char_device():
        pytest.skip("needs the device /dev/full")
    target = folder.path / "step-00000004.ckpt"
    (folder.path / f".{target.name}.{os.getpid()}.aside").symlink_to(full)
    with pytest.raises(MachineError, match="could not be written"):
        DurableCheckpointIO().save_checkpoint({"global_step": 4, "weight": torch.ones(10**5)}, target)
    assert not target.exists()
    assert folder.latest() == folder.at(3)


@pytest.fixture
def known() -> Any:
    """A host that knows the toy."""
    host = PluginHost(entry_points=[])
    host.register(toy, "toy")
    with using(host):
        yield host


def test_an_exported_model_opens_with_equal_scores(tmp_path: Path, known: PluginHost) -> None:
    """Modality and weights come back; the record has name, fields and versions; the card is there."""
    modality = ToyModality(width=5, init_seed=3)
    model = modality.build()
    with torch.no_grad():
        model.head.weight += 1
    export(modality, model, tmp_path / "model", "# card", convention={"beta": 0.1})
    opened, loaded = open_model(tmp_path / "model")
    assert opened == modality
    assert not loaded.training
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    record = json.loads((tmp_path / "model" / "dpoframe.json").read_text())
    assert record["modality"] == "toy"
    assert record["score_convention"] == {"beta": 0.1}
    assert record["versions"]["torch"] == torch.__version__
    assert (tmp_path / "model" / "README.md").read_text() == "# card"
    export(modality, model, tmp_path / "model", "# second")
    assert (tmp_path / "model" / "README.md").read_text() == "# second"
    assert [item.name for item in tmp_path.iterdir()] == ["model"]


@dataclass(frozen=True)
class Failing(ToyModality):
    """Cannot be saved."""

    def save(self, model: Any, folder: Path) -> None:
        """Writes half, then fails as a full disk does."""
        (folder / "half").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_export_that_fails_leaves_nothing_and_keeps_the_old(tmp_path: Path, known: PluginHost) -> None:
    """The folder is as before, and no half-written one stands beside it."""
    modality: Modality = ToyModality()
    export(modality, modality.build(), tmp_path / "model", "# old", name="toy")
    with pytest.raises(MachineError, match="No space left"):
        export(Failing(), modality.build(), tmp_path / "model", "# new", name="toy")
    assert (tmp_path / "model" / "README.md").read_text() == "# old"
    assert [item.name for item in tmp_path.iterdir()] == ["model"]


def test_an_export_that_cannot_take_its_place_keeps_the_old(
    tmp_path: Path, known: PluginHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the last rename fails, the model that was there is there again."""
    modality, real = ToyModality(), Path.rename
    export(modality, modality.build(), tmp_path / "model", "# old")

    def fail(self: Path, target: Path) -> Path:
        if self.name.endswith(".aside"):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return real(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(MachineError, match="Permission denied"):
        export(modality, modality.build(), tmp_path / "model", "# new")
    assert (tmp_path / "model" / "README.md").read_text() == "# old"
    assert [item.name for item in tmp_path.iterdir()] == ["model"]


OWN_MODALITY = """
from dataclasses import dataclass
from dpoframe.testing.toy import ToyModality

@dataclass(frozen=True)
class Private(ToyModality):
    hub_token: str | None = None
"""


def test_secrets_stay_out_and_a_file_s_class_is_found_again(tmp_path: Path, known: PluginHost) -> None:
    """A modality out of a file, exported without a name, opens by its file; its token is in no file and comes back unset."""
    (tmp_path / "mine.py").write_text(OWN_MODALITY)
    kind = known.get("modality", f"{tmp_path / 'mine.py'}:Private")
    modality = kind(width=5, hub_token="very-secret")
    export(modality, modality.build(), tmp_path / "model", "# card")
    assert "very-secret" not in (tmp_path / "model" / "dpoframe.json").read_text()
    assert open_model(tmp_path / "model")[0] == kind(width=5)


def test_unfinished_runs_and_broken_records_are_told_apart(tmp_path: Path, known: PluginHost) -> None:
    """A run without a model says how to finish it; a record that cannot be read says which file."""
    (tmp_path / "recipe.yaml").write_text("")
    with pytest.raises(CheckpointError, match="--resume"):
        open_model(tmp_path)
    (tmp_path / "dpoframe.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"dpoframe\.json cannot be read"):
        open_model(tmp_path)


def test_checkpoints_after_a_step_are_dropped_whole(tmp_path: Path) -> None:
    """With every file of theirs, so that none of an abandoned save is taken for one of the next."""
    folder = CheckpointFolder(tmp_path)
    for step in (1, 2, 3):
        DurableCheckpointIO().save_checkpoint({"global_step": step, "parts": 2}, folder.at(step))
        DurableCheckpointIO().save_checkpoint({"global_step": step}, part_of(folder.at(step), 1, 2))
    folder.drop_after(2)
    assert folder.steps() == [1, 2]
    assert not list(tmp_path.glob("step-00000003*"))
    assert len(list(tmp_path.iterdir())) == 8
