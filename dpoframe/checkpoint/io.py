"""How Lightning reads and writes checkpoints here: durable, digested, and without running code on loading."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from dpoframe.checkpoint.durable import durable
from dpoframe.checkpoint.folder import manifest_of
from dpoframe.checkpoint.pieces import joined, part_of, whole
from dpoframe.checkpoint.room import require_room
from dpoframe.errors import CheckpointError, MachineError


class DurableCheckpointIO(CheckpointIO):
    """Writes `name.ckpt`, then its manifest `name.json` with size and SHA-256. A checkpoint without one does not count."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Writes a checkpoint and then its manifest; MachineError where the disk lacks room, is full, or is closed to us."""
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(f"The folder {target.parent} cannot be made: {error.strerror}.") from error
        require_room(target, checkpoint)
        with durable(target) as file:
            torch.save(checkpoint, file)  # type: ignore[arg-type]
        manifest = {
            "file": target.name,
            "parts": checkpoint.get("parts", 1),
            "bytes": file.size,
            "sha256": file.digest.hexdigest(),
            "step": checkpoint.get("global_step"),
        }
        with durable(manifest_of(target)) as listing:
            listing.write(json.dumps(manifest, indent=1).encode())

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a checkpoint onto the CPU, one of a split model whole. Only tensors and plain values are ever loaded."""
        loaded = _read(Path(path), map_location or "cpu", lazily=False)
        if loaded.get("parts", 1) > 1:
            loaded = whole(self.load_pieces(Path(path)))
        return loaded

    def load_pieces(self, path: Path) -> dict[str, Any]:
        """Reads a checkpoint with `Pieces` for split tensors; values are read from the disk where they are looked at."""
        first = _read(path, "cpu", lazily=True)
        parts = first.get("parts", 1)
        others = [_read(part_of(path, rank, parts), "cpu", lazily=True) for rank in range(1, parts)]
        return {name: joined(value, [other[name] for other in others if name in other]) for name, value in first.items()}

    @property
    def failed(self) -> bool:
        """Whether a save went wrong that nobody knows of: never, for each is raised at once."""
        return False

    def wait(self) -> None:
        """Returns when nothing is being written, which is at once."""

    def remove_checkpoint(self, path: Any) -> None:
        """Removes a checkpoint, its manifest first."""
        manifest_of(Path(path)).unlink(missing_ok=True)
        Path(path).unlink(missing_ok=True)


def _read(path: Path, device: Any, lazily: bool) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = torch.load(path, map_location=device, weights_only=True, mmap=lazily)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is no checkpoint that can be read: {str(error).splitlines()[0]}") from error
    return loaded
