"""When checkpoints are written."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import Checkpoint

from dpoframe.checkpoint import DurableCheckpointIO
from dpoframe.train.interruption import InterruptedRunError, Interruption
from dpoframe.train.retention import Retention
from dpoframe.train.together import raise_together


def default_interval(steps: int) -> int:
    """Steps between two checkpoints where the recipe does not say: ten in a run, and one a step in a shorter one."""
    return -(-steps // 10)


class Saving(Checkpoint):
    """Saves every `every` steps, after the last one, wherever the run ends, and when it is interrupted; always between two steps.

    A step that is followed by a validation is saved after it, so that a resumed run does not lose the validation. A step that
    is measured and found among the best to keep is saved whether or not it is its turn.

    Args:
        retention: Which of them stay.
        every: Steps between two.
        steps: Steps of the run.
        validate_every: Steps between two validations, None for one at the end; 0 where there is no validation.
        interruption: Says whether to stop.
    """

    def __init__(
        self,
        retention: Retention,
        every: int,
        steps: int,
        validate_every: int | None,
        interruption: Interruption,
    ) -> None:
        self.retention, self.every, self.steps = retention, every, steps
        self.validate_every, self.interruption = validate_every, interruption

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        """Saves where it is time and no validation follows; ends an interrupted run, and one that cannot be saved."""
        if self.interruption.unsaved:
            settle(trainer)
        step = trainer.global_step
        if step == self.steps:
            trainer.should_stop = True  # Lightning then runs the validation that is due at the end
        if not self._validates(step, trainer.should_stop):
            self._save_or_stop(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """The same after a validation."""
        self.retention.require_figure(pl_module.validation_row)
        self._save_or_stop(trainer, validated=True)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Waits for the last checkpoint: no model is exported of a run that could not be saved."""
        settle(trainer)

    def _save_or_stop(self, trainer: lightning.Trainer, validated: bool = False) -> None:
        step, number = trainer.global_step, self.interruption.requested
        best = self.retention.measures(step, validated) and self._is_among_best(trainer)
        if self._due(step) or number or trainer.should_stop or best:
            self.save(trainer)
        if number and step < self.steps:
            settle(trainer)
            raise InterruptedRunError(number, step)

    def save(self, trainer: lightning.Trainer) -> None:
        """Writes the checkpoint of this step; called on all ranks."""
        trainer.save_checkpoint(self.retention.checkpoints.at(trainer.global_step))
        if trainer.is_global_zero:
            self.retention.prune()

    def _is_among_best(self, trainer: lightning.Trainer) -> bool:
        """What the first rank finds, on all ranks."""
        found = trainer.is_global_zero and self.retention.wants(trainer.global_step)
        return bool(trainer.strategy.broadcast(found))

    def _due(self, step: int) -> bool:
        return step == self.steps or step % self.every == 0

    def _validates(self, step: int, ends: bool) -> bool:
        if self.validate_every == 0:
            return False
        return ends or (self.validate_every is not None and step % self.validate_every == 0)


def settle(trainer: lightning.Trainer) -> None:
    """Returns on all ranks when none is writing a checkpoint; raises on all of them where one could not."""
    writer, own = trainer.strategy.checkpoint_io, None
    try:
        if isinstance(writer, DurableCheckpointIO):
            writer.wait()
    except Exception as error:  # told to the other ranks first
        own = error
    raise_together(own, trainer.strategy)
