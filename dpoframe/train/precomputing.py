"""Computes the reference scores of a recipe ahead of its training, for `dpoframe data reference`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only

from dpoframe.config.recipe import Recipe
from dpoframe.data.loading import load_pairs
from dpoframe.data.module import PairDataModule
from dpoframe.data.windowed_pairs import WindowedPairs
from dpoframe.errors import ConfigError
from dpoframe.loss import Loss
from dpoframe.losses import combine
from dpoframe.modality import Modality
from dpoframe.plugins import PluginHost
from dpoframe.plugins import host as installed
from dpoframe.train.caching import FillCache
from dpoframe.train.feeding import data_module
from dpoframe.train.hooks import RunHooks
from dpoframe.train.lightning_trainer import quiet
from dpoframe.train.preparing import prepare
from dpoframe.train.reference import CachedReference, make_reference, require_reference
from dpoframe.train.sharing import sharing_trainer, together
from dpoframe.train.sizes import moved_work
from dpoframe.train.watch import warn


@dataclass(frozen=True)
class CacheReport:
    """What was done: the folder of the scores, the pairs that had none, and all scores that are there now."""

    folder: Path
    computed: int
    scores: int


def precompute_reference(recipe: Recipe, host: PluginHost | None = None) -> CacheReport:
    """Scores every pair of a recipe by its reference and keeps the scores where training with kind `cached` finds them.

    The devices are those of the recipe's trainer section, each with a process and a whole model, also where training splits
    the model. Scores do not depend on their number. Each process returns the same.

    Args:
        recipe: Its reference kind does not matter: it is taken as `cached`.
        host: Where plugins are; the installed ones unless given.

    Raises:
        CompanionError, MachineError: another process has ended, or the folder cannot be written.
        ConfigError: the recipe, or its devices, cannot be used.
        DataError: no pair can be used.
    """
    known = host or installed()
    wanted = as_cached(recipe)
    trainer = sharing_trainer(recipe.trainer)
    modality, loss, data = reference_data(wanted, known)
    prepare(modality, data)
    reference = cached_reference(wanted, modality, loss, known)
    fill = FillCache(modality, reference, data)
    with quiet():
        computed = together(trainer, lambda: fill.fill(trainer))
    return CacheReport(reference.store.folder, computed, len(reference.store.rows))


def as_cached(recipe: Recipe) -> Recipe:
    """The recipe with kind `cached`, for one process."""
    section = dataclasses.replace(recipe.trainer, devices=1, strategy="auto", num_nodes=1)
    return dataclasses.replace(recipe, trainer=section, reference=dataclasses.replace(recipe.reference, kind="cached"))


def reference_data(recipe: Recipe, host: PluginHost) -> tuple[Modality, Loss, PairDataModule]:
    """What is scored, by what, and for which loss; no weights are loaded.

    Raises:
        ConfigError: the scores of such a recipe are not kept.
    """
    loss = combine([(one.part.value, one.weight) for one in recipe.loss])
    modality: Modality = recipe.modality.value.with_details(loss.requires)
    pairs = load_pairs(recipe.data, host, modality, seed=recipe.seed)
    require_reference(recipe, loss)
    if isinstance(pairs, WindowedPairs):
        raise ConfigError(f"data.window is {recipe.data.window}: scores of a set that is never read as a whole are not kept.")
    if getattr(rank_zero_only, "rank", 0) == 0 and (caution := moved_work(recipe, pairs.count)):
        warn(caution)
    return modality, loss, data_module(recipe, modality, loss, pairs)


def cached_reference(recipe: Recipe, modality: Modality, loss: Loss, host: PluginHost) -> CachedReference:
    """The model that scores, and its store."""
    torch.manual_seed(recipe.seed)
    policy = modality.build().train()
    made = RunHooks(host.relay(recipe.active_plugins)).reference(modality, policy, recipe)
    reference = make_reference(recipe.reference, modality, policy, made, loss.requires, recipe.trainer.precision)
    assert isinstance(reference, CachedReference), "kind cached makes no other"
    return reference
