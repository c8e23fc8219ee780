"""From the recipe's `trainer` section to `lightning.Trainer`."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.precision import DoublePrecision, Precision

from dpoframe.checkpoint import BackgroundCheckpointIO, DurableCheckpointIO
from dpoframe.config.checks import SPLITTING
from dpoframe.config.sections import TrainerSection
from dpoframe.errors import ConfigError, MachineError, MissingExtraError

# Said of every run here, and wrong here: steps are large and workers a choice; the loop's own checkpointing is off.
NOISE = (
    ".*does not have many workers.*",
    ".*smaller than the logging interval.*",
    ".*dataloader is not resumable.*",
    ".*in eval mode at the start of training.*",  # the reference
    ".*`lr_scheduler.step..` before `optimizer.step..`.*",  # a loss scaler passes over the first update
    ".*torch.distributed..*_tensor. is deprecated.*",  # DeepSpeed's own use of torch
    ".*isinstance.treespec, LeafSpec.. is deprecated.*",  # Lightning's own use of torch
)

ZERO_STAGES = {"deepspeed": 2, "deepspeed_stage_1": 1, "deepspeed_stage_2": 2, "deepspeed_stage_3": 3}
"""Lightning's names of DeepSpeed, and the stage of ZeRO that each is."""
BY_ELEMENT = ("adamw", "adam", "sgd")


def make_trainer(section: TrainerSection, steps: int, validates: bool, callbacks: Sequence[Callback]) -> lightning.Trainer:
    """The trainer of a run: counts optimizer steps, and leaves sampling, logging and checkpoints to dpoframe.

    Args:
        section: The recipe's `trainer`; its key `lightning` holds further arguments, which loading the recipe has checked.
        steps: Optimizer steps of the run.
        validates: Whether there are validation pairs.
        callbacks: Of the run, its plugins' among them.
    """
    extra = dict(section.lightning)
    strategy, precision = strategy_of(section), _precision_of(section)
    writer = BackgroundCheckpointIO() if section.save_in_background else DurableCheckpointIO()
    plugins = [writer, *extra.pop("plugins", [])]
    extra.setdefault("enable_model_summary", False)
    if section.strategy in SPLITTING:  # what was gathered in inference mode could not be trained afterwards
        extra.setdefault("inference_mode", False)
    try:
        return lightning.Trainer(
            logger=False,
            max_steps=steps,
            max_epochs=-1,
            val_check_interval=section.validate_every or steps + 1,
            check_val_every_n_epoch=None,
            limit_val_batches=1.0 if validates else 0,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_checkpointing=True,
            enable_progress_bar=False,
            precision=None if isinstance(precision, Precision) else precision,
            devices=section.devices,
            accelerator=section.accelerator,
            strategy=strategy,
            num_nodes=section.num_nodes,
            plugins=[*plugins, precision] if isinstance(precision, Precision) else plugins,
            callbacks=list(callbacks),
            **extra,
        )
    except (TypeError, ValueError, lightning.fabric.utilities.exceptions.MisconfigurationException) as error:
        raise ConfigError(f"lightning.Trainer does not accept the recipe's trainer section: {error}") from error
    except ImportError as error:  # a precision or strategy of a package that is not installed; it names the package
        raise MachineError(f"The recipe's trainer section needs a package that this machine lacks: {error}") from error


def strategy_of(section: TrainerSection) -> Any:
    """What Lightning takes for a strategy's name: `fsdp` is FSDP2, which Lightning has under no name.

    Raises:
        ConfigError: it is one of DeepSpeed's that are not handled.
        MissingExtraError: DeepSpeed is not installed.
    """
    name = section.strategy
    if name.startswith("deepspeed"):
        return zero_strategy(section)
    if name == "fsdp":
        from dpoframe.train.sharding.strategy import ShardedStrategy

        return ShardedStrategy()
    return name


def zero_strategy(section: TrainerSection) -> Any:
    """DeepSpeed's, where the recipe asks for nothing that it would do otherwise than the other strategies."""
    if section.strategy not in ZERO_STAGES:
        told = f"trainer.strategy is {section.strategy!r}; of DeepSpeed's there are {', '.join(ZERO_STAGES)}."
        raise ConfigError(f"{told} Offloading is not handled.")
    if section.precision not in ("32-true", "bf16-mixed"):
        told = f"trainer.precision is {section.precision!r}; with trainer.strategy {section.strategy} it is 32-true or bf16-mixed."
        raise ConfigError(f"{told} Take one of these, or trainer.strategy: ddp.")
    if section.optimizer not in BY_ELEMENT:
        told = f"trainer.optimizer is {section.optimizer!r}; DeepSpeed flattens parameters, so that it takes"
        raise ConfigError(f"{told} {', '.join(BY_ELEMENT)}, which look at each element alone. Take one of these, or strategy ddp.")
    if find_spec("deepspeed") is None:
        raise MissingExtraError(f"trainer.strategy {section.strategy}", "deepspeed", "pip install 'dpoframe[deepspeed]'")
    from dpoframe.train.sharding.zero import ZeroStrategy

    return ZeroStrategy(ZERO_STAGES[section.strategy], section.gradient_clip_val or 0.0)


def _precision_of(section: TrainerSection) -> Any:
    """What Lightning takes for a precision. It refuses the name of float64 for a split model, but not the thing."""
    if section.strategy in ZERO_STAGES:
        from dpoframe.train.sharding.zero import ZeroMixedPrecision, ZeroPrecision

        return ZeroMixedPrecision() if section.precision == "bf16-mixed" else ZeroPrecision()
    exact = section.precision == "64-true" and section.strategy == "fsdp"
    return DoublePrecision() if exact else section.precision


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Context without Lightning's remarks on the machine and on loops that it does not run here."""
    logs = {log: log.level for log in map(logging.getLogger, ("lightning.pytorch", "lightning.fabric"))}
    for log in logs:
        log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in NOISE:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for log, level in logs.items():
            log.setLevel(level)
