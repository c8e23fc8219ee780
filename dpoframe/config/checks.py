"""Checks that need more than one section. All are cheap: no weights are loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from dpoframe.config.assembly import Assembly
from dpoframe.config.document import KeyPath
from dpoframe.config.filling import keys
from dpoframe.config.paths import TASK
from dpoframe.config.secrets import MASK
from dpoframe.config.sections import DataSection, EvaluateSection, Part, ReferenceSection, TrainerSection, WeightedLoss
from dpoframe.errors import ConfigError, Fault, suggestion

# What the run itself decides, beside the keys of the trainer section: under `trainer.lightning` it would break the run.
OWN = frozenset(
    (
        "logger",
        "callbacks",
        "default_root_dir",
        "use_distributed_sampler",
        "enable_checkpointing",
        "enable_progress_bar",
        "check_val_every_n_epoch",
        "val_check_interval",
        "num_sanity_val_steps",
        "log_every_n_steps",
        "reload_dataloaders_every_n_epochs",
        "fast_dev_run",
        "limit_train_batches",
        "limit_val_batches",
        "overfit_batches",
        "gradient_clip_algorithm",
    )
)

SPLITTING = frozenset(("fsdp", "deepspeed_stage_3"))
"""Strategies under which no rank has the whole model."""
WHOLE_MATRICES = frozenset(("adafactor", "muon", "rprop"))
"""Optimizers of torch that cannot update a parameter of which each rank has some rows."""


def with_adapter(modality: Any) -> bool | None:
    """Whether a modality has an adapter that can be switched off; None where its fields do not say."""
    for name in ("lora", "adapter"):
        if hasattr(modality, name):
            return bool(getattr(modality, name))
    return None


def settled_reference(
    given: ReferenceSection, named: bool, modality: Part | None, losses: tuple[WeightedLoss, ...]
) -> ReferenceSection:
    """The reference section with its kind chosen where the recipe names none."""
    if named:
        return given
    if losses and not any(loss.part.value.uses_reference for loss in losses):
        return dataclasses.replace(given, kind="none")
    adapter = modality is not None and with_adapter(modality.value)
    return dataclasses.replace(given, kind="adapter" if adapter else "copy")


def settled_trainer(given: TrainerSection) -> TrainerSection:
    """The trainer section with one pass over the pairs where no length is given."""
    unlimited = given.max_steps is None and given.max_epochs is None
    return dataclasses.replace(given, max_epochs=1.0) if unlimited else given


def check_reference(build: Assembly, reference: ReferenceSection, modality: Part | None, losses: tuple[WeightedLoss, ...]) -> None:
    """Whether the reference serves the losses and can be had from the modality."""
    needing = [loss.part.name for loss in losses if loss.part.value.uses_reference]
    if reference.kind == "none" and needing:
        build.fault(
            ("reference", "kind"),
            f"is none, but the loss {', '.join(needing)} compares with a reference.",
            "Take copy, adapter or cached, or a loss without a reference, such as simpo.",
        )
    reading = [f"{loss.part.name} ({', '.join(sorted(found))})" for loss in losses if (found := loss.part.value.vectors)]
    if reference.kind == "cached" and reading:
        build.fault(
            ("reference", "kind"),
            f"is cached, but the loss {', '.join(reading)} reads a vector an example, of which nothing is kept.",
            "Take copy or adapter.",
        )
    if reference.kind == "adapter" and modality is not None and with_adapter(modality.value) is False:
        build.fault(
            ("reference", "kind"),
            f"is adapter, but the modality {modality.name} has none.",
            "Give it one, as in modality.lora: {r: 16}, or take kind copy or cached.",
        )


def check_details(build: Assembly, modality: Part | None, losses: tuple[WeightedLoss, ...]) -> None:
    """Whether the modality gives what the losses read besides scores."""
    if modality is None:
        return
    for index, loss in enumerate(losses):
        missing = loss.part.value.requires - modality.value.provides
        if missing:
            path: KeyPath = ("loss", index) if len(losses) > 1 else ("loss",)
            gives = ", ".join(sorted(modality.value.provides)) or "none"
            what = f"{loss.part.name} needs {', '.join(sorted(missing))} from the modality {modality.name}, which provides {gives}."
            build.fault(path, what)


def check_trainer(build: Assembly, trainer: TrainerSection) -> None:
    """Contradictions in the trainer section, and arguments that Lightning does not have or that are not its to get."""
    if trainer.max_steps is not None and trainer.max_epochs is not None:
        build.fault(("trainer", "max_epochs"), "stands beside max_steps.", "Give one of the two.")
    if trainer.warmup >= 1 and trainer.warmup != int(trainer.warmup):
        build.fault(("trainer", "warmup"), f"is {trainer.warmup}.", "Give a share of the run below 1, or a whole number of steps.")
    if trainer.max_steps is not None and trainer.warmup >= max(1, trainer.max_steps):
        build.fault(("trainer", "warmup"), f"is {trainer.warmup} steps of a run of {trainer.max_steps}.", "Give fewer.")
    if trainer.optimizer != "adamw":
        _check_optimizer(build, trainer.optimizer)
    if trainer.lightning:
        _check_lightning(build, trainer)


def check_split(build: Assembly, trainer: TrainerSection, during: EvaluateSection | None) -> None:
    """What a model that lies in parts on the ranks cannot have, and other names of the strategy that splits it."""
    if trainer.strategy.startswith("fsdp") and trainer.strategy != "fsdp":
        build.fault(("trainer", "strategy"), f"is {trainer.strategy!r}.", "Take fsdp, which is torch's second FSDP.")
    if trainer.strategy in SPLITTING and during is not None and during.every is not None:
        told = f"needs the whole model while it trains, and trainer.strategy {trainer.strategy} splits it."
        build.fault(("evaluate", "every"), told, "Take ddp, or leave it out.")
    if trainer.strategy == "fsdp" and trainer.optimizer in WHOLE_MATRICES:
        told = f"is {trainer.optimizer!r}, which needs whole parameters, and trainer.strategy fsdp splits them."
        build.fault(("trainer", "optimizer"), told, "Take adamw, or trainer.strategy: ddp.")
    if trainer.strategy == "fsdp" and trainer.precision == "16-mixed":
        told = "is '16-mixed', whose scaling of the loss a split model does not have."
        build.fault(("trainer", "precision"), told, "Take bf16-mixed, or trainer.strategy: ddp.")


def check_window(build: Assembly, data: DataSection, trainer: TrainerSection, reference: ReferenceSection) -> None:
    """What a set that is read window by window cannot have: nothing that needs all pairs before training."""
    if data.window is None:
        return
    if trainer.max_steps is None:
        build.fault(("trainer", "max_steps"), "is needed with data.window.", "The number of pairs is not known before training.")
    if reference.kind == "cached":
        build.fault(("reference", "kind"), "is cached, and data.window is set.", "Take copy or adapter.")
    if isinstance(data.validation, float) and data.validation:
        build.fault(
            ("data", "validation"),
            f"is the share {data.validation:g}, and data.window is set.",
            "Give a number of pairs, which are taken from the beginning, or a data set of its own.",
        )


def check_names(build: Assembly) -> None:
    """Whether every suite and plugin that is named exists."""
    given = build.document.data.get("evaluate")
    suites: KeyPath = ("evaluate", "suites") if isinstance(given, Mapping) else ("evaluate",)
    lookups: list[tuple[KeyPath, Any, Callable[[str], Any]]] = [
        (suites, given.get("suites") if isinstance(given, Mapping) else given, partial(build.host.get, "suite")),
        (("plugins",), build.document.data.get("plugins"), build.host.plugin),
    ]
    for section, named, look_up in lookups:
        for index, name in enumerate(named if isinstance(named, list) else ()):
            # Whether lm-evaluation-harness has a task, only it can say.
            if isinstance(name, str) and not name.startswith(TASK):
                build.attempt((*section, index), partial(look_up, name))


def check_masks(build: Assembly) -> None:
    """Secrets that were masked when the recipe was written must be given again."""
    for path in _masked(build.document.data, ()):
        fix = f"Give it with --set {'.'.join(map(str, path))}=..., or in the environment."
        build.fault(path, "was a secret and was not written.", fix)


def _masked(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _masked(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _masked(item, (*path, index))
    elif isinstance(value, str) and (value == MASK or f"{MASK}@" in value):
        yield path


def _check_optimizer(build: Assembly, name: str) -> None:
    """Imports torch, which a recipe with the usual optimizer spares itself."""
    import torch

    kinds = [kind for kind in vars(torch.optim).values() if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)]
    # A step here calls no closure again, as lbfgs would; gradients are dense, which sparseadam does not take.
    known = sorted({kind.__name__.lower() for kind in kinds} - {"optimizer", "lbfgs", "sparseadam"})
    if name not in known:
        near = suggestion(name.lower(), known)
        build.fault(("trainer", "optimizer"), f"is {name!r}.", f"{near} Known are: {', '.join(known)}.".strip())


def _check_lightning(build: Assembly, trainer: TrainerSection) -> None:
    import inspect

    from lightning import Trainer

    known = set(inspect.signature(Trainer).parameters)
    own = set(keys(TrainerSection))
    for key in trainer.lightning:
        path: KeyPath = ("trainer", "lightning", key)
        if key in own:
            build.fault(path, "is a key of the trainer section itself.", f"Write trainer.{key}.")
        elif key in OWN:
            build.fault(path, "is set by dpoframe.", "A plugin's dpoframe_callbacks adds callbacks; reporters add loggers.")
        elif key not in known:
            build.fault(path, "is no argument of lightning.Trainer.", suggestion(key, known - own - OWN))


def refuse(build: Assembly) -> None:
    """Raises what was found: a ConfigError with every fault; what the machine lacks where nothing else is wrong."""
    if build.machine and not build.faults:
        raise build.machine[0]
    faults = [*build.faults, *(Fault("", str(error)) for error in build.machine)]
    if faults:
        count = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError(f"{build.document.name} has {count}:", faults)
