"""A step that does not fit into memory is scored again in smaller micro-batches; its result does not depend on them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, TypeVar

import torch

from dpoframe.data.batching import StepBatch, move
from dpoframe.errors import MachineError
from dpoframe.train.agreement import CUT, STUCK, AbandonedError, Agreement
from dpoframe.train.randomness import RandomState
from dpoframe.train.step import synchronised
from dpoframe.train.watch import warn

Found = TypeVar("Found")
CPU_ALLOCATOR = "DefaultCPUAllocator"
HELP = "Train fewer parameters (lora), take the reference kind 'cached' or 'adapter', a shorter precision, or shorter examples."


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
    """Remembers how large a micro-batch may be.

    Attributes:
        limit: In units of `Modality.measure`; None until memory ran out.
        agreement: Between ranks that can give up an attempt together, from the first step on.
    """

    def __init__(self) -> None:
        self.limit: int | None = None
        self.agreement: Agreement | None = None

    def fit(self, batch: StepBatch, attempt: Callable[[StepBatch], Found], trainer: Any) -> tuple[StepBatch, Found]:
        """What `attempt` gives for a step, and the step as it was cut in the end.

        An attempt that runs out of memory is made again with micro-batches of half the size, from the same random state. Of
        several ranks all make it again, and each keeps to its own size.

        Args:
            batch: This rank's share of the step.
            attempt: Scores the share and forms its gradient, by `exchange` and `backward`; must begin by clearing the gradient.
            trainer: Lightning's; its data module makes the step anew.

        Raises:
            MachineError: one pair alone does not fit, or the other ranks are in an exchange and wait for this one.
        """
        if self.agreement is None:
            self.agreement = Agreement.of(trainer.strategy)
        if self.limit is not None and most_pairs(batch) > 1 and units(batch) > self.limit:
            batch = self._cut(batch, trainer)
        device = trainer.strategy.root_device
        while True:
            state = RandomState.now(device)
            try:
                found = attempt(batch)
            except AbandonedError as error:
                cause, stuck = None, error.stuck
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                cause, stuck = str(error).splitlines()[0] if str(error) else type(error).__name__, False
            else:
                if self.agreement is not None:
                    self.agreement.after_step()
                return batch, found
            # Only here, where the error is gone, is what its frames held free.
            if stuck:
                raise MachineError(f"Out of memory in step {batch.step} on another rank: one pair alone does not fit. {HELP}")
            batch = batch if cause is None else self._smaller(batch, trainer, cause)
            state.restore(device)

    def exchange(self) -> AbstractContextManager[Any]:
        """Context of an exchange between ranks in an attempt, other than that of gradients."""
        return nullcontext() if self.agreement is None else self.agreement.exchange()

    def backward(self, backward: Callable[[], None], batch: StepBatch, number: int, strategy: Any) -> None:
        """The backward of a micro-batch in an attempt; ranks exchange gradients after the last.

        Args:
            backward: Does it.
            batch: This rank's share of the step.
            number: Of the micro-batch.
            strategy: Lightning's.
        """
        last = number + 1 == len(batch.micro)
        if self.agreement is not None:
            self.agreement.backward(backward, int(batch.micro[number].units.sum()), number == 0, last)
            return
        with synchronised(strategy, last):
            backward()

    def _smaller(self, batch: StepBatch, trainer: Any, cause: str) -> StepBatch:
        """The step in micro-batches of half the size, once the other ranks know."""
        gc.collect()
        torch.cuda.empty_cache()
        before, together = units(batch), self.agreement
        where = f"Out of memory in step {batch.step} ({cause})"
        waits = trainer.world_size > 1 or hasattr(trainer.strategy, "withhold")  # DeepSpeed cannot begin a step anew
        if waits and (together is None or together.exchanging):
            raise MachineError(
                f"{where}, on rank {trainer.global_rank}, with micro-batches of up to {before:,} units. Resume with "
                f"--set trainer.tokens_per_batch={max(1, before // 2)}: no result depends on it."
            )
        found = self._halved(batch, trainer)
        if together is not None:
            together.tell(STUCK if found is None else CUT)
        if found is None:
            raise MachineError(f"{where}: one pair of {before:,} units alone does not fit. {HELP}")
        warn(
            f"{where}, in micro-batches of up to {before:,} units. They have at most {self.limit:,} from now on, which changes no "
            f"result; set trainer.tokens_per_batch: {self.limit} to begin so."
        )
        return found

    def _halved(self, batch: StepBatch, trainer: Any) -> StepBatch | None:
        """The step cut anew, to half the size or less; None where it is one pair at a time already."""
        before, pairs = units(batch), most_pairs(batch)
        if pairs == 1:
            return None
        self.limit = before if self.limit is None else min(self.limit, before)
        while most_pairs(batch) == pairs:
            self.limit //= 2
            batch = self._cut(batch, trainer)
        return batch

    def _cut(self, batch: StepBatch, trainer: Any) -> StepBatch:
        smaller = replace(trainer.datamodule.train, tokens_per_batch=self.limit)[batch.step]
        return move(smaller, trainer.strategy.root_device)  # type: ignore[no-any-return]
