"""The sections of a recipe. Plain frozen dataclasses: their fields are the recipe's keys, their defaults its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AllowInfNan, BeforeValidator, StringConstraints, WithJsonSchema

Positive: TypeAlias = Annotated[int, Gt(0), Le(10**9)]
Few: TypeAlias = Annotated[int, Gt(0), Le(1024)]
Share: TypeAlias = Annotated[float, Gt(0), Lt(1)]
Rate: TypeAlias = Annotated[float, Gt(0), Lt(1e6)]
ReferenceKind: TypeAlias = Literal["copy", "adapter", "cached", "none", "ema"]
FullPrecision: TypeAlias = Literal[
    "32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true", "transformer-engine", "transformer-engine-float16"
]
SHORT_PRECISIONS = {"64": "64-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}
"""Lightning's short names, of which those that are numbers may be given as numbers."""


def full_precision(given: Any) -> Any:
    """The full name of a precision, so that it does not matter how a recipe writes it; anything else as it is."""
    # Not isinstance: True is an int.
    known = SHORT_PRECISIONS.get(str(given)) if type(given) in (int, str) else None
    return known or given


Precision: TypeAlias = Annotated[
    FullPrecision,
    BeforeValidator(full_precision),
    WithJsonSchema({"enum": [*get_args(FullPrecision), *SHORT_PRECISIONS, 64, 32, 16]}),
]
MIXTURE = "mixture"
"""The data set whose key `sources` holds further ones."""


@dataclass(frozen=True)
class Part:
    """A part that a plugin supplies, as the recipe sets it up.

    Attributes:
        name: The name it has in the recipe, or `/folder/file.py:Name`.
        value: An instance of the part's dataclass, made from the recipe's keys.
        plugin: Name of the plugin that supplies it.
    """

    name: str
    value: Any
    plugin: str


@dataclass(frozen=True)
class WeightedLoss:
    """One loss of a sum; `weight` multiplies it."""

    part: Part
    weight: float = 1.0


@dataclass(frozen=True)
class DataSection:
    """Where the preferences come from.

    Attributes:
        name: The data set's name, or `/folder/file.py:name`.
        options: Every keyword argument of the data set, defaults included.
        validation: What is held out of training: below 1 a share of the pairs, a whole number of pairs, or another data set,
            `{name, ...its arguments, limit}`; None for nothing.
        limit: Most pairs to use, None for all.
        allow: Codes of faults that refuse no row: `tie`, `reversed-scores`, `duplicate`, `control-character`.
        window: Pairs in memory at a time: the set is read window by window as it is trained on, and shuffled inside a window;
            None for a set that is read and checked as a whole first.
        plugin: Name of the plugin that supplies the data set.
        validation_plugin: The same for the validation data set; empty where there is none.
    """

    name: str
    options: Mapping[str, Any]
    validation: float | int | Mapping[str, Any] | None = None
    limit: int | None = None
    allow: tuple[str, ...] = ()
    window: int | None = None
    plugin: str = ""
    validation_plugin: str = ""


@dataclass(frozen=True)
class DataKeys:
    """The keys of `data` that are the core's own; all others are the data set's arguments."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    validation: Annotated[float, Ge(0), Lt(1)] | Positive | Mapping[str, Any] | None = None
    limit: Positive | None = None
    allow: tuple[Literal["tie", "reversed-scores", "duplicate", "control-character"], ...] = ()
    window: Annotated[int, Ge(2), Le(10**7)] | None = None


@dataclass(frozen=True)
class HeldOutKeys:
    """The core's own keys of a validation data set."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    limit: Positive | None = None


@dataclass(frozen=True)
class SourceKeys:
    """The keys of a mixture's source that are the mixture's own; all others are the data set's arguments."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    weight: Annotated[float, Gt(0), AllowInfNan(False)] = 1.0


@dataclass(frozen=True)
class ReferenceSection:
    """What the policy is compared with.

    Attributes:
        kind: `copy` (a frozen copy of the policy at the start), `adapter` (the policy with its adapter switched off),
            `cached` (scores computed once and kept on disk), `none`, `ema` (a copy that follows the policy slowly).
            Left out: `none` where no loss reads the reference, `adapter` where the modality has one, else `copy`.
        decay: For `ema`, the share of the reference that a step keeps.
        folder: For `cached`, where scores are kept; None for the user's cache folder.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    kind: ReferenceKind = "copy"
    decay: Share = 0.99
    folder: Path | None = None


@dataclass(frozen=True)
class KeepBest:
    """Which figure decides on the weights that a run ends with.

    Attributes:
        metric: `suite/metric`, as the suite's results.json names the metric.
        direction: Which way is better; None for what the metric itself says.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    metric: Annotated[str, StringConstraints(pattern=r"^[^/]+/.+$")]
    direction: Literal["higher", "lower"] | None = None


@dataclass(frozen=True)
class KeepBestCheckpoints(KeepBest):
    """Which checkpoints stay besides the newest.

    Attributes:
        metric: A figure of the validation, as in `validation/loss`, or `suite/metric` of the evaluations on the way.
        direction: Which way is better; None for what the metric itself says.
        count: How many stay.
    """

    count: Positive = 1


@dataclass(frozen=True)
class TrainerSection:
    """How the training goes.

    Attributes:
        max_steps: Optimizer steps of the run.
        max_epochs: Passes over the pairs; exactly one of the two holds, and with neither given it is one pass.
        batch_size: Pairs of one optimizer step, over all ranks and micro-batches.
        tokens_per_batch: Most units (tokens for text) in one micro-batch: the knob for peak memory, no result depends on it.
        accumulate_grad_batches: Least number of micro-batches of each rank's share of a step; no result depends on it.
        lr: Peak learning rate.
        optimizer: A class of `torch.optim`, in lower case.
        betas: The optimizer's betas, where it has any.
        weight_decay: The optimizer's weight decay.
        schedule: How the learning rate falls after the warm-up.
        warmup: Below 1 a share of the run, else a number of steps.
        gradient_clip_val: Largest norm of the gradient, None for no limit.
        on_nonfinite: What a loss or gradient that is not finite does: `stop` the run before the update, or `skip` the step.
        precision: As in `lightning.Trainer`; its short names stand for the full ones.
        devices: As in `lightning.Trainer`.
        accelerator: As in `lightning.Trainer`.
        strategy: As in `lightning.Trainer`, and `fsdp` for FSDP2.
        num_nodes: As in `lightning.Trainer`.
        log_every: Steps between two rows of metrics.jsonl.
        validate_every: Steps between two validations; None for one at the end.
        save_every: Steps between two checkpoints; None for a tenth of the run. One is written at the end in any case.
        keep_checkpoints: Checkpoints kept; older ones are removed.
        keep_best_checkpoints: Checkpoints kept besides these, the best by a figure of the validation or of the evaluations on the
            way, as in `{metric: validation/loss, count: 2}`; None for none.
        save_in_background: Whether checkpoints are written while training goes on, from a copy in the host's memory.
        seeds_per_pair: How many draws of noise a pair sees in turn, epoch by epoch; None for a new one each epoch. Of use with a
            modality whose scores depend on the seed (images): with `reference: cached` each draw is then scored once, not
            once an epoch.
        bucket_by_length: Whether a step holds pairs of about one length.
        num_workers: Processes that prepare batches.
        threads: Threads of torch on a CPU; None for torch's own choice.
        lightning: Any other argument of `lightning.Trainer`, passed on as it is.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    max_steps: Positive | None = None
    max_epochs: Rate | None = None
    batch_size: Annotated[int, Gt(0), Le(10**6)] = 8
    tokens_per_batch: Positive | None = None
    accumulate_grad_batches: Positive = 1
    lr: Rate = 5e-6
    optimizer: str = "adamw"
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.999)
    weight_decay: Annotated[float, Ge(0), Lt(1e6)] = 0.0
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: Annotated[int | float, Ge(0), Le(10**9)] = 0.1
    gradient_clip_val: Rate | None = 1.0
    on_nonfinite: Literal["stop", "skip"] = "stop"
    precision: Precision = "32-true"
    devices: int | str | list[int] = "auto"
    accelerator: str = "auto"
    strategy: str = "auto"
    num_nodes: Positive = 1
    log_every: Positive = 1
    validate_every: Positive | None = None
    save_every: Positive | None = None
    keep_checkpoints: Positive = 2
    keep_best_checkpoints: KeepBestCheckpoints | None = None
    save_in_background: bool = False
    seeds_per_pair: Positive | None = None
    bucket_by_length: bool = True
    num_workers: Annotated[int, Ge(0), Le(1024)] = 0
    threads: Few | None = None
    lightning: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluateSection:
    """Suites before and after training, and on the way.

    Attributes:
        suites: Names or files of suites; all run before and after.
        every: Steps between two evaluations on the way; None for none.
        limit: Prompts and pairs of each suite to ask on the way; None for all.
        keep_best: The run ends with the weights that were best by this figure; None for the last ones.
        patience: Evaluations in a row without a better figure after which the run ends early; None for no end.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    suites: tuple[str, ...]
    every: Positive | None = None
    limit: Positive | None = None
    keep_best: KeepBest | None = None
    patience: Positive | None = None


@dataclass(frozen=True)
class TopKeys:
    """The plain keys of a recipe's top level."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    name: Annotated[str, StringConstraints(pattern=r"^(\w[\w .+:@=-]*)?$", max_length=100)] = ""
    description: str = ""
    evaluate: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    seed: Annotated[int, Ge(0), Lt(2**63)] = 0


@dataclass(frozen=True)
class LossKeys:
    """The keys of a loss that are the core's own; all others are the loss's fields."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    weight: Rate = 1.0
