"""Every hook a plugin may implement. A plugin marks its functions with `@dpoframe.hookimpl` and implements only what it needs.

A plugin is a module named by an entry point in the group `dpoframe`. The hooks that return mappings say what exists;
they are asked when the host starts, so they must be cheap: a value may be the string `"package.module:Name"`, which is
imported only when the part is used. The hooks from `dpoframe_configure` on take part in a run; they are called only
for plugins that the recipe names under `plugins:`, or that supply a part it uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from dpoframe.evaluator import Evaluator
from dpoframe.loss import Loss
from dpoframe.modality import Modality
from dpoframe.reporter import Reporter
from dpoframe.types import PairScores, PreferencePair, RefusedRow

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback
    from torch import Tensor, nn

PROJECT = "dpoframe"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def dpoframe_modalities() -> Mapping[str, type[Modality] | str]:  # type: ignore[empty-body]
    """Modalities by the name a recipe uses in `modality: {name: ...}`."""


@hookspec
def dpoframe_datasets() -> Mapping[str, Callable[..., Iterable[PreferencePair | RefusedRow]] | str]:  # type: ignore[empty-body]
    """Preference data sets by the name a recipe uses in `data: {name: ...}`.

    A data set is a callable whose parameters are its recipe keys. It yields pairs, and a `RefusedRow` for each row
    that makes none.
    """


@hookspec
def dpoframe_losses() -> Mapping[str, type[Loss] | str]:  # type: ignore[empty-body]
    """Losses by the name a recipe uses in `loss: {name: ...}`."""


@hookspec
def dpoframe_evaluators() -> Mapping[str, type[Evaluator] | str]:  # type: ignore[empty-body]
    """Evaluators by the name a suite uses under `evaluators:`."""


@hookspec
def dpoframe_suites() -> Mapping[str, Path]:  # type: ignore[empty-body]
    """Benchmark suites: name to YAML file."""


@hookspec
def dpoframe_recipes() -> Mapping[str, Path]:  # type: ignore[empty-body]
    """Training recipes: name to YAML file."""


@hookspec
def dpoframe_reporters() -> Mapping[str, type[Reporter] | str]:  # type: ignore[empty-body]
    """Reporters by the name a recipe uses under `reporters:`."""


@hookspec
def dpoframe_commands(cli: Any) -> None:
    """Adds verbs to the command line. `cli` is the `typer.Typer` application."""


@hookspec
def dpoframe_configure(config: Any) -> None:
    """Looks at the resolved recipe before any weights are loaded; raises `ConfigError` to stop the run.

    `config` is the frozen `Recipe`. Use it for checks that need more than one section.
    """


@hookspec
def dpoframe_callbacks(config: Any) -> Sequence[Callback]:  # type: ignore[empty-body]
    """Lightning callbacks to add to the trainer; the lists of all plugins are concatenated."""


@hookspec(firstresult=True)
def dpoframe_reference(modality: Modality, policy: nn.Module, config: Any) -> nn.Module | None:
    """Makes the reference model. The first plugin to return a module wins; the core's own implementation is asked last."""


@hookspec
def dpoframe_loss_terms(scores: PairScores, stage: str, step: int) -> Mapping[str, Tensor]:  # type: ignore[empty-body]
    """Scalars to add to the micro-batch's loss, logged as `loss/<plugin>.<name>`.

    `stage` is `train` or `validation`; `step` counts optimizer steps from 0. Each term is a mean over the pairs of
    `scores`; the trainer weights it by the micro-batch's share of the step.
    """


@hookspec
def dpoframe_pair_metrics(scores: PairScores, losses: Tensor, stage: str, step: int) -> Mapping[str, Tensor]:  # type: ignore[empty-body]
    """Scalars to log, under `<plugin>/<name>`. `losses` is (B,); called without gradients on whole steps."""
