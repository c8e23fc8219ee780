"""The numbers of a step or of a validation, as one row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dpoframe.loss import Loss
from dpoframe.metrics import pair_metrics
from dpoframe.train.hooks import RunHooks
from dpoframe.train.start import START, start_figures
from dpoframe.train.step import LOSS, TERM, UNITS, WEIGHT, Columns
from dpoframe.types import PairScores

CHOSEN, MARGIN, LENGTH = "chosen_logratio", "absolute_margin", "chosen_length"


@torch.no_grad()
def metric_row(
    loss: Loss, hooks: RunHooks, stage: str, step: int, columns: Columns, scores: PairScores, measured: Mapping[str, Tensor]
) -> dict[str, Any]:
    """All metrics of a set of pairs as plain numbers. The only wait for the device in a step is here.

    Args:
        loss: Gives the rewards.
        hooks: Add metrics of plugins.
        stage: `train` or `validation`.
        step: Optimizer steps done before these scores.
        columns: The pairs' columns.
        scores: The same as `PairScores`.
        measured: Further 0-dim tensors.
    """
    losses = columns[LOSS] * columns[WEIGHT].to(columns[LOSS])
    rewards = getattr(loss, "rewards", None)
    found = dict(pair_metrics(scores, losses, loss.reward_scale, rewards(scores) if rewards else None))
    terms = {name.removeprefix(TERM): column.mean() for name, column in columns.items() if name.startswith(TERM)}
    found[LOSS] = found[LOSS] + sum(terms.values())
    found |= {f"loss/{name}": value for name, value in terms.items()}
    margin = scores.chosen_logratio - scores.rejected_logratio
    found |= {UNITS: columns[UNITS].sum(), CHOSEN: scores.chosen_logratio.mean(), MARGIN: margin.abs().mean()}
    found[LENGTH] = scores.chosen_length.to(losses).mean()
    found |= start_figures(loss, columns, scores) if stage == "train" and step == 0 else {}
    found |= {**measured, **hooks.pair_metrics(scores, losses, stage, step)}
    kind = torch.float32 if losses.device.type == "mps" else torch.float64
    numbers = torch.stack([value.detach().to(kind) for value in found.values()]).tolist()
    row = dict(zip(found, numbers, strict=True))
    return {"step": step, **row, UNITS: int(row[UNITS])}


def set_aside(row: dict[str, Any]) -> dict[str, Any]:
    """Takes out of a row what is watched but not logged: units, mean chosen log-ratio and absolute margin, mean length.

    In the first step also what `start_figures` gives.
    """
    return {name: row.pop(name) for name in (UNITS, CHOSEN, MARGIN, LENGTH, *START) if name in row}
