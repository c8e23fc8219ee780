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
from dpoframe.train.step import FIELDS, LOSS, TERM, Columns
from dpoframe.types import PreferencePair

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
    names, terms = faulty(batch, columns, strategy)
    message = describe(batch.step, placed(names, batch.step, strategy), terms, bool(names))
    if settings.on_nonfinite == "stop":
        raise TrainingError(
            f"{message} The weights were not updated. Look at the pairs, lower trainer.lr, or set trainer.on_nonfinite: skip."
        )
    if strategy.is_global_zero:
        warnings.warn(f"{message} The step is skipped.", RuntimeWarning, stacklevel=2)


def withhold(optimizer: torch.optim.Optimizer, trainer: Any) -> None:
    """Makes the next update change nothing, though it counts as a step."""
    if hasattr(trainer.strategy, "withhold"):
        trainer.strategy.withhold()
        return
    if getattr(trainer.precision_plugin, "scaler", None) is None:
        optimizer.zero_grad()
        return
    # A loss scaler refuses to step without gradients, and passes over those that are not finite.
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.fill_(math.nan)


def faulty(batch: StepBatch, columns: Columns, strategy: Any) -> tuple[list[str], list[str]]:
    """What is not finite on any rank: ids of the pairs whose loss or one of whose scores is not, and names of plugins' terms."""
    ids = [name for pairs in batch.own for name in pairs.ids]
    finite = torch.stack([columns[name].isfinite() for name in (LOSS, *FIELDS)]).all(0).tolist()
    terms = [name for name in columns if name.startswith(TERM) and not columns[name].isfinite().all()]
    mine = [name for name, good in zip(ids, finite, strict=True) if not good], [name.removeprefix(TERM) for name in terms]
    everyone: list[Any] = [mine] * strategy.world_size
    if strategy.world_size > 1:
        torch.distributed.all_gather_object(everyone, mine)
    return [name for part, _ in everyone for name in part], sorted({name for _, part in everyone for name in part})


def placed(names: Sequence[str], step: int, strategy: Any) -> list[str]:
    """The names with the source and row of each pair, where its data set tells them; of all pairs of the step if none is given."""
    stream = strategy.lightning_module.trainer.datamodule.train.stream
    pairs = {pair.id: pair for pair in (stream.pair(*member) for member in stream.step(step))}
    return [_placed(pairs[name]) if name in pairs else name for name in names or pairs]


def _placed(pair: PreferencePair) -> str:
    source, row = pair.meta.get("origin"), pair.meta.get("row")
    return pair.id if row is None else f"{pair.id} ({source}, row {row})"


def describe(step: int, names: Sequence[str], terms: Sequence[str], found: bool) -> str:
    """The fault in words.

    Args:
        step: Number of the step.
        names: The pairs to name.
        terms: Loss terms of plugins that are not finite.
        found: Whether the pairs are those at fault, or all of the step.
    """
    shown = f"{', '.join(names[:NAMED])}{f' and {len(names) - NAMED} more' if len(names) > NAMED else ''}."
    if found:
        return f"Step {step}: the loss is not finite. Pairs: {shown}"
    if terms:
        return f"Step {step}: the loss term {' and '.join(terms)} is not finite. Pairs of the step: {shown}"
    return f"Step {step}: every pair's loss is finite, but the gradient is not (an overflow in the backward). One of: {shown}"
