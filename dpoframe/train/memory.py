"""A step that does not fit into memory is scored again in smaller micro-batches; its result does not depend on them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch

from dpoframe.data.batching import StepBatch, move
from dpoframe.errors import MachineError
from dpoframe.train.randomness import RandomState
from dpoframe.train.watch import warn

Found = TypeVar("Found")
CPU_ALLOCATOR = "DefaultCPUAllocator"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, on whatever device."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or CPU_ALLOCATOR in str(error)


def units(batch: StepBatch) -> int:
    """Units of a step's largest micro-batch."""
    return max(int(pairs.units.sum()) for pairs in batch.micro)


def most_pairs(batch: StepBatch) -> int:
    """Pairs of a step's fullest micro-batch."""
    return max(len(pairs.ids) for pairs in batch.micro)


class MemoryFit:
    """Remembers how large a micro-batch may be. `limit` is in units of `Modality.measure`; None until memory ran out."""

    def __init__(self) -> None:
        self.limit: int | None = None

    def fit(self, batch: StepBatch, attempt: Callable[[StepBatch], Found], trainer: Any) -> tuple[StepBatch, Found]:
        """What `attempt` gives for a step, and the step as it was cut in the end.

        An attempt that runs out of memory is made again with micro-batches of half the size, from the same random state.

        Args:
            batch: This rank's share of the step.
            attempt: Scores the share and forms its gradient; must begin by clearing the gradient.
            trainer: Lightning's; its data module makes the step anew.

        Raises:
            MachineError: one pair alone does not fit, or there are several ranks: the others would wait for this one.
        """
        if self.limit is not None and most_pairs(batch) > 1 and units(batch) > self.limit:
            batch = self._cut(batch, trainer)
        device = trainer.strategy.root_device
        while True:
            state = RandomState.now(device)
            try:
                return batch, attempt(batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                cause = str(error).splitlines()[0] if str(error) else type(error).__name__
            # Only here, where the error is gone, is what its frames held free.
            batch = self._smaller(batch, trainer, cause)
            state.restore(device)

    def _smaller(self, batch: StepBatch, trainer: Any, cause: str) -> StepBatch:
        gc.collect()
        torch.cuda.empty_cache()
        before, pairs = units(batch), most_pairs(batch)
        where = f"Out of memory in step {batch.step} ({cause})"
        if trainer.world_size > 1:
            raise MachineError(
                f"{where}, on rank {trainer.global_rank}, with micro-batches of up to {before:,} units. Resume with "
                f"--set trainer.tokens_per_batch={max(1, before // 2)}: no result depends on it."
            )
        self.limit = before if self.limit is None else min(self.limit, before)
        while most_pairs(batch) == pairs:
            if pairs == 1:
                raise MachineError(
                    f"{where}: one pair of {before:,} units alone does not fit. Train fewer parameters (lora), take the "
                    "reference kind 'cached' or 'adapter', a shorter precision, or shorter examples."
                )
            self.limit //= 2
            batch = self._cut(batch, trainer)
        warn(
            f"{where}, in micro-batches of up to {before:,} units. They have at most {self.limit:,} from now on, which changes no "
            f"result; set trainer.tokens_per_batch: {self.limit} to begin so."
        )
        return batch

    def _cut(self, batch: StepBatch, trainer: Any) -> StepBatch:
        smaller = replace(trainer.datamodule.train, tokens_per_batch=self.limit)[batch.step]
        return move(smaller, trainer.strategy.root_device)  # type: ignore[no-any-return]
