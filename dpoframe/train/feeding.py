"""What training and precomputing build alike from a recipe."""

from __future__ import annotations

from dpoframe.config.recipe import Recipe
from dpoframe.data.loading import LoadedPairs
from dpoframe.data.module import PairDataModule
from dpoframe.data.windowed_pairs import WindowedPairs
from dpoframe.loss import Loss
from dpoframe.modality import Modality
from dpoframe.train.schedule import total_steps


def data_module(recipe: Recipe, modality: Modality, loss: Loss, pairs: LoadedPairs | WindowedPairs) -> PairDataModule:
    """The LightningDataModule of a recipe."""
    section = recipe.trainer
    return PairDataModule(
        modality,
        pairs.train,
        pairs.validation,
        steps=total_steps(section, pairs.count),
        seed=recipe.seed,
        batch_size=section.batch_size,
        tokens_per_batch=section.tokens_per_batch,
        accumulate=section.accumulate_grad_batches,
        bucket=section.bucket_by_length,
        mismatched=loss.mismatched,
        bank=section.seeds_per_pair,
        workers=section.num_workers,
    )
