"""Tensors whose rows lie in the files of several ranks.

A checkpoint of a split model is one file a rank, `step-N.ckpt` and `step-N.part-R-of-W.ckpt`, each with a manifest. In them a
split tensor stands as a piece: `{"piece": rows, "start": number of the first, "shape": of the whole}`. Whatever the number of
ranks that wrote it, any number can read it, each its own rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpoframe.errors import CheckpointError, ConfigError

PIECE = {"piece", "start", "shape"}


def part_of(checkpoint: Path, rank: int, ranks: int) -> Path:
    """The file of a rank; the first rank's is the checkpoint itself."""
    return checkpoint.with_name(f"{checkpoint.stem}.part-{rank:05d}-of-{ranks:05d}.ckpt") if rank else checkpoint


@dataclass(frozen=True)
class Pieces:
    """A saved tensor in pieces.

    Attributes:
        shape: Of the whole.
        found: Number of the first row and rows of each piece, in order; read from the disk when they are looked at.
    """

    shape: torch.Size
    found: Sequence[tuple[int, Tensor]]

    def rows(self, start: int, stop: int) -> Tensor:
        """(stop - start, ...) rows of the whole."""
        parts = [
            part[max(0, start - first) : stop - first] for first, part in self.found if first < stop and first + len(part) > start
        ]
        found = torch.cat(parts) if parts else self.found[0][1].new_empty(0, *self.shape[1:])
        if len(found) != max(0, min(stop, self.shape[0]) - start):
            raise CheckpointError(f"Rows {start} to {stop} of a tensor of {self.shape[0]} are not in the checkpoint's parts.")
        return found

    def whole(self) -> Tensor:
        """The tensor itself."""
        return self.rows(0, self.shape[0])


def own_rows(tensor: Any) -> tuple[int, int]:
    """First row and end of what this rank holds of a tensor that is split along its first dimension.

    Every rank but the last ones has as many rows as `torch.chunk` gives: the number of rows over that of ranks, rounded up.
    """
    (placement,) = tensor.placements
    if not placement.is_shard(0):
        raise ConfigError(f"A tensor is laid out over the ranks as {placement}; only rows (Shard(0)) are handled here.")
    size = -(-tensor.shape[0] // tensor.device_mesh.size())
    start = min(tensor.device_mesh.get_local_rank() * size, tensor.shape[0])
    stop = min(start + size, tensor.shape[0])
    assert len(tensor.to_local()) == stop - start, "torch splits as torch.chunk does"
    return start, stop


def with_pieces(value: Any) -> Any:
    """Nested containers with this rank's piece in place of each split tensor."""
    if hasattr(value, "device_mesh") and isinstance(value, Tensor):
        start, _ = own_rows(value)
        return {"piece": value.to_local().detach(), "start": start, "shape": list(value.shape)}  # type: ignore[attr-defined]
    return _through(value, with_pieces)


def pieces_only(value: Any) -> Any:
    """The same with nothing but pieces in it; None stands for the rest."""
    if is_piece(value):
        return value
    return _through(value, pieces_only) if isinstance(value, dict | list | tuple) else None


def joined(value: Any, others: Sequence[Any]) -> Any:
    """What the first rank wrote, with `Pieces` in place of its pieces.

    Args:
        value: The first rank's file, or a part of it.
        others: The same of the other ranks.
    """
    if is_piece(value):
        found = sorted(((one["start"], one["piece"]) for one in (value, *others)), key=lambda piece: piece[0])
        return Pieces(torch.Size(value["shape"]), found)
    if isinstance(value, dict):
        return {name: joined(one, [other[name] for other in others if _has(other, name)]) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(joined(one, [other[at] for other in others if other]) for at, one in enumerate(value))
    return value


def whole(value: Any) -> Any:
    """Nested containers with every `Pieces` put together."""
    return value.whole() if isinstance(value, Pieces) else _through(value, whole)


def is_piece(value: Any) -> bool:
    """Whether it is a piece of a tensor, as it stands in a file."""
    return isinstance(value, dict) and value.keys() == PIECE


def _has(value: Any, name: Any) -> bool:
    return isinstance(value, dict) and name in value


def _through(value: Any, change: Any) -> Any:
    if isinstance(value, dict):
        return type(value)((name, change(one)) for name, one in value.items())
    if isinstance(value, list | tuple):
        return type(value)(change(one) for one in value)
    return value
