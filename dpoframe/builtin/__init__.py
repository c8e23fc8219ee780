"""What the core itself supplies, through the hooks that any plugin uses. Targets are strings: nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dpoframe.hookspecs import hookimpl
from dpoframe.losses import REGISTRY

if TYPE_CHECKING:
    from torch import nn

    from dpoframe.modality import Modality

DATASETS = ("jsonl", "parquet", "csv", "huggingface")
EVALUATORS = {
    "base_logp": "BaseLogp",
    "contains_expected": "ContainsExpected",
    "degeneration": "Degeneration",
    "directness": "Directness",
    "distinct_n": "DistinctN",
    "finished": "Finished",
    "kl": "Kl",
    "preference_accuracy": "PreferenceAccuracy",
    "response_length": "ResponseLength",
    "reward_margin": "RewardMargin",
    "win_rate": "WinRate",
}


@hookimpl
def dpoframe_losses() -> Mapping[str, str]:
    """The losses of `dpoframe.losses`."""
    return dict(REGISTRY)


@hookimpl
def dpoframe_datasets() -> Mapping[str, str]:
    """Readers of files and of Hugging Face data sets, and mixtures of data sets."""
    return {**{name: f"dpoframe.data.readers:{name}" for name in DATASETS}, "mixture": "dpoframe.data.mixture:mixture"}


@hookimpl
def dpoframe_evaluators() -> Mapping[str, str]:
    """Measurements; only a judge brings a model of its own."""
    return {name: f"dpoframe.builtin.{name}:{kind}" for name, kind in EVALUATORS.items()}


@hookimpl
def dpoframe_reporters() -> Mapping[str, str]:
    """Weights & Biases, TensorBoard and CSV files."""
    return {
        "wandb": "dpoframe.builtin.wandb:Wandb",
        "tensorboard": "dpoframe.builtin.lightning_loggers:Tensorboard",
        "csv": "dpoframe.builtin.lightning_loggers:Csv",
    }


@hookimpl(trylast=True)
def dpoframe_reference(modality: Modality, policy: nn.Module, config: Any) -> nn.Module | None:
    """A copy of the policy for the kinds `copy` and `ema`; the others need no second model."""
    if config.reference.kind not in ("copy", "ema"):
        return None
    from dpoframe.train.reference import copy_of

    return copy_of(policy)
