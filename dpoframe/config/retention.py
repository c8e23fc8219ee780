"""Which figure ranks a run's checkpoints: whether there is one of that name, and which way is better."""

from __future__ import annotations

import dataclasses
from typing import Literal

from dpoframe.config.assembly import Assembly
from dpoframe.config.sections import DataSection, EvaluateSection, TrainerSection
from dpoframe.errors import suggestion

VALIDATION = "validation/"
"""How the figures of the validation begin in a recipe; those of an evaluation begin with a suite's name."""
FIGURES: dict[str, Literal["higher", "lower"] | None] = {
    "loss": "lower",
    "rewards/accuracies": "higher",
    "rewards/margins": "higher",
    "rewards/chosen": None,
    "rewards/rejected": None,
    "logps/chosen": None,
    "logps/rejected": None,
}
"""The core's own figures of a validation, each with the way that is better, None where that depends on what is wanted."""
EXAMPLE = "For example: keep_best_checkpoints: {metric: validation/loss, count: 2}"
_KEY = ("trainer", "keep_best_checkpoints")


def settled_retention(given: TrainerSection) -> TrainerSection:
    """The trainer section with the direction filled in that a figure of the validation itself says."""
    best = given.keep_best_checkpoints
    if best is None or best.direction is not None:
        return given
    name = best.metric.removeprefix(VALIDATION)
    way = FIGURES.get(name, "lower" if name.startswith("loss/") else None) if name != best.metric else None
    return dataclasses.replace(given, keep_best_checkpoints=dataclasses.replace(best, direction=way))


def check_retention(build: Assembly, data: DataSection, trainer: TrainerSection, during: EvaluateSection | None) -> None:
    """Whether the figure that ranks checkpoints is ever taken, and says which way is better.

    A suite's figures are known when it is loaded, those of a plugin at the first validation.
    """
    best = trainer.keep_best_checkpoints
    if best is None:
        return
    if best.metric.startswith(VALIDATION):
        if not data.validation:
            build.fault((*_KEY, "metric"), f"is {best.metric}, and nothing is held out for a validation.", "Set data.validation.")
        _check_figure(build, best.metric.removeprefix(VALIDATION), settled_retention(trainer))
    elif during is None or during.every is None:
        told = f"is {best.metric}, a figure of a suite, and none is taken on the way."
        build.fault((*_KEY, "metric"), told, f"Set evaluate.every, or take a figure of the validation. {EXAMPLE}")


def _check_figure(build: Assembly, name: str, trainer: TrainerSection) -> None:
    heads = [head for plugin in build.host.plugins for head in (f"{plugin.name}/", f"loss/{plugin.name}.")]
    if name not in FIGURES and not name.startswith(tuple(heads)):
        near = suggestion(VALIDATION + name, [VALIDATION + one for one in FIGURES])
        listed = f"Known are: {', '.join(VALIDATION + one for one in FIGURES)}, and what plugins of the recipe add."
        build.fault((*_KEY, "metric"), f"is {VALIDATION}{name}, which no validation gives.", f"{near} {listed}".strip())
    elif trainer.keep_best_checkpoints is not None and trainer.keep_best_checkpoints.direction is None:
        told = f"is needed: {VALIDATION}{name} does not say which way is better."
        build.fault((*_KEY, "direction"), told, "Say higher or lower.")
