"""Keeping ranks in step where every forward is an exchange between all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from dpoframe.data.batching import PairBatch, StepBatch


def most(count: int, strategy: Any) -> int:
    """The largest `count` of any rank where every micro-batch is an exchange; else `count` itself, without one."""
    if not getattr(strategy, "exchanges_always", False) or strategy.world_size == 1:
        return count
    found = torch.tensor(count, device=strategy.root_device)
    torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
    return int(found)


class Lockstep:
    """Fills up a rank's share of a step, so that all ranks have as many micro-batches.

    What is filled in is a micro-batch that was there before; it counts for nothing.
    """

    def __init__(self) -> None:
        self.spare: PairBatch | None = None

    def filled(self, batch: StepBatch, strategy: Any) -> StepBatch:
        """The share with as many micro-batches as the rank has that has most; of those `idle` are for the others' sake."""
        wanted = most(len(batch.micro), strategy)
        if batch.micro:
            self.spare = min(batch.micro, key=lambda pairs: int(pairs.units.sum()))
        idle = wanted - len(batch.micro)
        if not idle:
            return batch
        assert self.spare is not None, "every rank has a pair in the first step and in a validation's first"
        return replace(batch, micro=[*batch.micro, *[self.spare] * idle], idle=idle)
