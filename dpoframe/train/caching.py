"""Fills the cache of reference scores when a run is set up: on its devices, in its precision, each rank its share."""

from __future__ import annotations

import sys
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from rich.console import Console

from dpoframe.data.module import PairDataModule
from dpoframe.modality import Modality
from dpoframe.train.precompute import precompute
from dpoframe.train.progress import make_bar
from dpoframe.train.reference import CachedReference


class FillCache(Callback):
    """Runs before the first step, and before a checkpoint is loaded: the model is still as it was before training."""

    def __init__(self, modality: Modality, reference: CachedReference, data: PairDataModule) -> None:
        self.modality, self.reference, self.data = modality, reference, data

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Fills the cache, unless the model is still to be split."""
        if not getattr(trainer.strategy, "splits_model", False):
            self.fill(trainer)

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Fills it with a model that has been split."""
        if getattr(trainer.strategy, "splits_model", False):
            self.fill(trainer)

    def fill(self, trainer: lightning.Trainer) -> int:
        """Scores what is missing and reads the whole table; returns the number of pairs that were missing."""
        strategy, precision = trainer.strategy, trainer.precision_plugin
        model = precision.convert_module(self.reference.model).to(strategy.root_device)
        store = self.reference.store.read()
        strategy.barrier("what is missing")  # all ranks have looked before one adds to it
        with make_bar(Console(file=sys.stderr, quiet=not (trainer.is_global_zero and sys.stderr.isatty()))) as bar:
            task = bar.add_task("reference scores", total=None, shown="")
            missing = precompute(
                self.modality,
                model,
                self.data.datasets(),
                store,
                precision=precision.forward_context,
                convert=precision.convert_input,
                rank=trainer.global_rank,
                world=trainer.world_size,
                advance=lambda done, total: bar.update(task, completed=done, total=total),
            )
        strategy.barrier("reference scores")
        store.read()
        return missing
