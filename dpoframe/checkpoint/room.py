"""Whether a disk has room for a checkpoint, asked before anything is written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dpoframe.checkpoint.folder import CheckpointFolder
from dpoframe.errors import MachineError

SPARE = 4 << 20
"""Bytes beside the tensors: names, the archive's directory, the manifest, and a row of metrics."""


def require_room(target: Path, checkpoint: Mapping[str, Any]) -> None:
    """Makes room for a checkpoint where the disk lacks it, by removing all but the newest whole one of its folder.

    Raises:
        MachineError: there is not enough even so. Nothing was written, and the newest checkpoint is as it was.
    """
    wanted = tensor_bytes(checkpoint) + SPARE
    if shutil.disk_usage(target.parent).free >= wanted:
        return
    before = CheckpointFolder(target.parent)
    before.prune(1)
    free = shutil.disk_usage(target.parent).free
    if free < wanted:
        intact = "; the checkpoint before is intact" if before.steps() else ""
        raise MachineError(
            f"{target} needs about {wanted / 2**20:,.0f} MiB, and its disk has {free / 2**20:,.0f} MiB left. Nothing was "
            f"written{intact}. Make room and resume, or give another place with --out."
        )


def tensor_bytes(value: Any) -> int:
    """Bytes that the tensors in nested containers take on the disk; a storage that several share counts once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in _tensors(value)}
    return sum(storages.values())


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for one in value:
            yield from _tensors(one)
