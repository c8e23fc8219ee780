"""What happens when a loss or gradient is not a number: the run stops before the update, and names the pairs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dpoframe.config.sections import TrainerSection
from dpoframe.data.batching import StepBatch
from dpoframe.errors import TrainingError
from dpoframe.train.step import FIELDS, LOSS, Columns

NAMED = 10


def is_finite(row: Mapping[str, Any], trainer: Any) -> bool:
    """Whether the step may update the weights. A gradient that overflows in float16 is the loss scaler's to skip."""
    scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
    return math.isfinite(row["loss"]) and (scaled or math.isfinite(row["grad_norm"]))


def stop_or_skip(settings: TrainerSection, batch: StepBatch, columns: Columns, strategy: Any) -> None:
    """Raises `TrainingError`, or only warns where `trainer.on_nonfinite` is `skip`.

    Args:
        settings: The recipe's `trainer` section.
        batch: This rank's share of the step.
        columns: Its columns.
        strategy: Lightning's strategy; all ranks call this.
    """
    message = describe(batch.step, named_pairs(batch, columns, strategy))
    if settings.on_nonfinite == "stop":
        raise TrainingError(
            f"{message} The weights were not updated. Look at the pairs, lower trainer.lr, or set trainer.on_nonfinite: skip."
        )
    if strategy.is_global_zero:
        warnings.warn(f"{message} The step is skipped.", RuntimeWarning, stacklevel=2)


def withhold(optimizer: torch.optim.Optimizer, trainer: Any) -> None:
    """Makes the next update change nothing, though it counts as a step."""
    if getattr(trainer.precision_plugin, "scaler", None) is None:
        optimizer.zero_grad()
        return
    # A loss scaler refuses to step without gradients, and passes over those that are not finite.
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.fill_(math.nan)


def named_pairs(batch: StepBatch, columns: Columns, strategy: Any) -> list[str]:
    """Ids of the pairs, on all ranks, whose loss or one of whose scores is not finite."""
    ids = [name for pairs in batch.micro for name in pairs.ids]
    finite = torch.stack([columns[name].isfinite() for name in (LOSS, *FIELDS)]).all(0).tolist()
    mine = [name for name, good in zip(ids, finite, strict=True) if not good]
    if strategy.world_size == 1:
        return mine
    everyone: list[Any] = [None] * strategy.world_size
    torch.distributed.all_gather_object(everyone, mine)
    return [name for part in everyone for name in part]


def describe(step: int, names: Sequence[str]) -> str:
    """The fault in words."""
    if not names:
        return f"Step {step}: every pair's loss is finite, but the gradient is not (an overflow in the backward)."
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"Step {step}: the loss is not finite. Pairs: {', '.join(names[:NAMED])}{rest}."
