"""Processes that share the scoring of a reference: each has the whole model, and all they do together is wait for each other."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from typing_extensions import override

from dpoframe.companions import wait, watched
from dpoframe.config.sections import TrainerSection
from dpoframe.errors import ConfigError
from dpoframe.train.lightning_trainer import make_trainer, quiet
from dpoframe.train.outer import outer_ranks

Result = TypeVar("Result")

_NAME = "dpoframe_sharing"
_LONGEST_WAIT = timedelta(days=7)


class SharingStrategy(DDPStrategy):
    """Lightning's processes, without an exchange of gradients. A signal, and the loss of another process, end the waiting."""

    @override
    def barrier(self, *args: Any, **kwargs: Any) -> None:
        if torch.distributed.is_initialized():
            wait()


# gloo even on GPUs: nothing but waiting is done through it, and that may take hours.
StrategyRegistry.register(_NAME, SharingStrategy, override=True, process_group_backend="gloo", timeout=_LONGEST_WAIT)


def sharing_trainer(section: TrainerSection) -> lightning.Trainer:
    """The trainer on whose devices a reference scores: the recipe's, whatever its strategy does with the model in training.

    In a notebook, from which no command line can be started again, it is one.

    Raises:
        ConfigError: Lightning does not take the section, or a launcher started another number of processes.
    """
    with quiet():
        alone = make_trainer(dataclasses.replace(section, strategy="auto"), 1, False, [])
        started = outer_ranks()[1]
        if started not in (1, alone.world_size):
            raise ConfigError(
                f"The launcher started {started} processes, and the recipe's trainer section asks for {alone.world_size}. Set "
                f"trainer.devices to the processes of a machine (and trainer.num_nodes), as in --set trainer.devices={started}."
            )
        if alone.world_size == 1:
            return alone
        if getattr(alone.strategy.launcher, "is_interactive_compatible", False):
            return make_trainer(dataclasses.replace(section, strategy="auto", devices=1, num_nodes=1), 1, False, [])
        return make_trainer(dataclasses.replace(section, strategy=_NAME), 1, False, [])


def together(trainer: lightning.Trainer, work: Callable[[], Result]) -> Result:
    """Does `work` on every process of a trainer, after they were started; each gets its own result.

    Raises:
        CompanionError, MachineError: another process has ended.
    """
    strategy: Any = trainer.strategy
    launcher = strategy.launcher
    if not isinstance(strategy, SharingStrategy):
        return work()

    def begun() -> Result:
        log = logging.getLogger("lightning.fabric")
        before = log.level
        log.setLevel(logging.WARNING)  # it would tell of every process that it is there
        try:
            strategy.setup_environment()
        finally:
            log.setLevel(before)
        return work()

    environment = strategy.cluster_environment
    child = isinstance(environment, LightningEnvironment) and environment.local_rank() > 0
    with watched(lambda: getattr(launcher, "procs", []), parent=child):
        try:
            result: Result = launcher.launch(begun, trainer=trainer)
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
    return result
