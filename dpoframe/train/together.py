"""What all ranks must know before any of them goes on: an error of one would leave the others waiting for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from dpoframe.errors import MachineError


def greatest(numbers: Sequence[int], strategy: Any) -> list[int]:
    """The greatest of each number over all ranks, in one exchange; called on all of them."""
    if strategy.world_size == 1:
        return list(numbers)
    told = torch.tensor(numbers, device=strategy.root_device)
    torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
    found: list[int] = told.tolist()
    return found


def raise_together(own: Exception | None, strategy: Any) -> None:
    """Raises on every rank where one has an error: its own where it has one, else MachineError with another's words."""
    mine = "" if own is None else str(own) or type(own).__name__
    everyone: list[Any] = [mine] * strategy.world_size
    if strategy.world_size > 1:
        torch.distributed.all_gather_object(everyone, mine)
    if own is not None:
        raise own
    if faults := [message for message in everyone if message]:
        raise MachineError(faults[0])
