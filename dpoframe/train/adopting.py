"""Where a run goes on with a recipe that was allowed to change, the recipe's settings hold, not the checkpoint's."""

from __future__ import annotations

from typing import Any, cast

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch.optim.lr_scheduler import LambdaLR

from dpoframe.config.sections import TrainerSection


class Adopting(Callback):
    """Sets the optimizer that a checkpoint brought back to the recipe's settings, before the first step."""

    def __init__(self, settings: TrainerSection) -> None:
        self.settings = settings

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Sets them."""
        adopt_settings(trainer.optimizers[0], cast(Any, trainer.lr_scheduler_configs[0].scheduler), self.settings)


def adopt_settings(optimizer: torch.optim.Optimizer, schedule: LambdaLR, settings: TrainerSection) -> None:
    """Sets an optimizer that was restored from a checkpoint, and its schedule, to the recipe's rate, decay and betas."""
    schedule.base_lrs = [settings.lr] * len(optimizer.param_groups)
    for group, factor in zip(optimizer.param_groups, schedule.lr_lambdas, strict=True):
        matrices = group.get("matrices", None)  # under DeepSpeed, whose groups are flat
        matrices = group["params"][0].ndim >= 2 if matrices is None else matrices
        group |= {"initial_lr": settings.lr, "lr": settings.lr * factor(schedule.last_epoch)}
        group["weight_decay"] = settings.weight_decay if matrices else 0.0
        if "betas" in group:
            group["betas"] = tuple(settings.betas)
