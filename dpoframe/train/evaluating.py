"""Evaluations on the way: every so many steps, with an early end and the best weights kept where the recipe asks for them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from torch import nn

from dpoframe.checkpoint import CheckpointFolder
from dpoframe.checkpoint.folder import damage
from dpoframe.config.sections import EvaluateSection
from dpoframe.errors import CheckpointError, TrainingError
from dpoframe.train.randomness import RandomState
from dpoframe.train.reporting import Reporting

STAGE = "evaluation"
Measure: TypeAlias = Callable[[nn.Module, int], Mapping[str, float]]
"""`measure(policy, step)`: the figures of the model in memory, by `suite/metric`."""


@dataclass
class Standing:
    """How the evaluations stand, kept with every checkpoint.

    Attributes:
        best: The best figure so far, None before the first.
        step: Steps done when it was reached.
        stale: Evaluations since then.
        ended: Whether they ended the run.
    """

    best: float | None = None
    step: int = 0
    stale: int = 0
    ended: bool = False


class Evaluating(Callback):
    """Evaluates on the first rank while the others wait; all ranks then do the same.

    An evaluation leaves the random state of the process and every part's mode as they were, so that a run with
    evaluations takes the same steps as one without. It comes before the step's checkpoint, which so holds its outcome.

    Args:
        section: The recipe's.
        measure: Takes the figures; called on the first rank alone.
        higher: Whether the figure that decides is better high.
        folder: Where the best weights are kept.
    """

    def __init__(self, section: EvaluateSection, measure: Measure, higher: bool, folder: CheckpointFolder) -> None:
        self.section, self.measure, self.higher, self.folder = section, measure, higher, folder
        self.standing = Standing()
        self.steps = 0

    @property
    def metric(self) -> str:
        """The figure that decides; empty where none does."""
        return self.section.keep_best.metric if self.section.keep_best is not None else ""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Refuses what it cannot evaluate; a run that an evaluation had ended stays ended."""
        self.steps = pl_module.steps
        split = any(type(one).__name__ == "DTensor" or one.numel() == 0 for one in pl_module.policy.parameters())
        if self.section.every is not None and split:
            told = "evaluate.every needs the whole model on the first rank, and this strategy splits it."
            raise TrainingError(f"{told} Take ddp, or leave `every` out.")
        if self.standing.ended:
            trainer.should_stop = True

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *args: Any) -> None:
        """Evaluates where it is time: every so many steps and, where the best weights are kept, after the last one."""
        step = trainer.global_step
        if self.section.every is None or not (step % self.section.every == 0 or (self.metric and step == self.steps)):
            return
        figures = self._figures(trainer, pl_module.policy, step)
        if trainer.is_global_zero:
            self._write(trainer, {"step": step, "stage": STAGE, **figures})
        if self.metric:
            self._judge(trainer, step, figures.get(self.metric, math.nan))

    def state_dict(self) -> dict[str, Any]:
        """How the evaluations stand."""
        return {**vars(self.standing), "metric": self.metric}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there; from nothing where another figure decides now."""
        if state_dict.pop("metric") == self.metric:
            self.standing = Standing(**state_dict)

    @property
    def note(self) -> str:
        """Which weights the run ends with, and why, for its card; empty where they are the last ones."""
        if self.standing.best is None:
            return ""
        found = f"The weights are those after step {self.standing.step}, the best of the evaluations by {self.metric}"
        return f"{found}: {self.standing.best:.4g}."

    def restore(self, module: Any) -> None:
        """Puts the best weights into the module and forgets the others.

        Raises:
            CheckpointError: the kept weights are damaged.
        """
        if self.standing.best is None:
            return
        file = self.folder.at(self.standing.step)
        if fault := damage(file):
            raise CheckpointError(
                f"The best weights, {file}, cannot be used: {fault}. The last ones are in {self.folder.path.parent}."
            )
        state = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(state, strict=False)
        self.folder.prune(1)
        self._say(self.note)

    def _figures(self, trainer: lightning.Trainer, policy: nn.Module, step: int) -> Mapping[str, float]:
        """The figures on all ranks. Where the first one fails all fail, and none waits for ever."""
        outcome: tuple[dict[str, float], str] = ({}, "")
        failed: Exception | None = None
        if trainer.is_global_zero:
            try:
                with _untouched(policy, trainer.strategy.root_device):
                    outcome = dict(self.measure(policy, step)), ""
            except Exception as error:  # told to the other ranks first, raised as it is after
                failed, outcome = error, ({}, f"{type(error).__name__}: {error}")
        outcome = trainer.strategy.broadcast(outcome)
        if failed is not None:
            raise failed
        if outcome[1]:
            raise TrainingError(f"The evaluation after step {step} failed on the first rank: {outcome[1]}")
        return outcome[0]

    def _judge(self, trainer: lightning.Trainer, step: int, value: float) -> None:
        """Keeps the weights that are better than all before; ends the run where that has not happened for long."""
        now = self.standing
        better = math.isfinite(value) and (now.best is None or (value > now.best if self.higher else value < now.best))
        if better:
            self.standing = Standing(value, step)
            trainer.save_checkpoint(self.folder.at(step))
            if trainer.is_global_zero:
                self.folder.prune(2)  # the one before stays until a checkpoint of the run knows of this one
            return
        now.stale += 1
        if self.section.patience is not None and now.stale >= self.section.patience and step < self.steps:
            now.ended = trainer.should_stop = True
            if trainer.is_global_zero:
                self._say(f"The run ends after step {step}: {now.stale} evaluations in a row brought no better {self.metric}.")

    @staticmethod
    def _write(trainer: lightning.Trainer, row: dict[str, Any]) -> None:
        for one in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(one, Reporting):
                one.write(row)

    @staticmethod
    def _say(text: str) -> None:
        with contextlib.suppress(OSError):  # a full disk under the log ends no run
            Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)


@contextlib.contextmanager
def _untouched(policy: nn.Module, device: torch.device) -> Iterator[None]:
    """Context after which the process's generators and every part's mode are as before."""
    state, training = RandomState.now(device), [(part, part.training) for part in policy.modules()]
    try:
        yield
    finally:
        state.restore(device)
        for part, mode in training:
            part.training = mode
