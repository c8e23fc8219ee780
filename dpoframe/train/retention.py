"""Which checkpoints of a run stay."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dpoframe.checkpoint import CheckpointFolder
from dpoframe.config.recipe import Recipe
from dpoframe.config.retention import VALIDATION
from dpoframe.config.sections import KeepBestCheckpoints
from dpoframe.errors import ConfigError, Fault
from dpoframe.train.evaluating import STAGE
from dpoframe.train.folder import RunFolder, rows_in

_NO_FIGURES = {"step", "stage", "epoch", "tokens"}


@dataclass
class Retention:
    """The newest checkpoints stay, and the best by a figure of the validations, or of the evaluations on the way.

    A checkpoint's figure is what metrics.jsonl says of its step. So nothing is kept beside it, a resumed run ranks as an
    unbroken one, and another figure or number may be asked for on the way. Rows are read once, when they are new.

    Attributes:
        run: The run folder.
        last: How many of the newest stay.
        best: How many of the best, by what; None for none.
        every: Steps between two evaluations; None for none.
    """

    run: RunFolder
    last: int
    best: KeepBestCheckpoints | None = None
    every: int | None = None
    _figures: dict[int, float] = field(default_factory=dict)
    _read: int = 0

    @classmethod
    def of(cls, run: RunFolder, recipe: Recipe) -> Retention:
        """What a recipe asks for.

        Raises:
            ConfigError: nobody says which way a suite's figure is better.
        """
        best = recipe.trainer.keep_best_checkpoints
        if best is not None and best.direction is None:
            told = f"is needed: {best.metric} does not say which way is better."
            key = "trainer.keep_best_checkpoints.direction"
            raise ConfigError("The recipe cannot be used:", [Fault(key, told, "Say higher or lower.")])
        return cls(run, recipe.trainer.keep_checkpoints, best, recipe.during.every if recipe.during is not None else None)

    @property
    def checkpoints(self) -> CheckpointFolder:
        """Where they lie."""
        return self.run.checkpoints

    def measures(self, step: int, validated: bool) -> bool:
        """Whether the figure is taken after this step; the same on all ranks."""
        if self.best is None:
            return False
        return validated if self._of_validation else self.every is not None and step % self.every == 0

    def require_figure(self, row: Mapping[str, Any]) -> None:
        """Raises `ConfigError` where a validation's row lacks the figure; which ones plugins add is not known before."""
        if self.best is not None and self._of_validation and self._name not in row:
            listed = ", ".join(VALIDATION + name for name in row if name not in _NO_FIGURES)
            told = f"no validation gives {self.best.metric}."
            fault = Fault("trainer.keep_best_checkpoints.metric", told, f"They give: {listed}.")
            raise ConfigError("The recipe cannot be used:", [fault])

    def wants(self, step: int) -> bool:
        """Whether the state after `step`, which has no checkpoint yet, is among the best."""
        return step in self._ranked([*self.checkpoints.steps(), step])

    def prune(self) -> None:
        """Removes what need not stay."""
        self.checkpoints.prune(self.last, self._ranked(self.checkpoints.steps()) if self.best is not None else ())

    @property
    def _of_validation(self) -> bool:
        return self.best is not None and self.best.metric.startswith(VALIDATION)

    @property
    def _name(self) -> str:
        """The figure's name in its row."""
        return self.best.metric.removeprefix(VALIDATION) if self.best is not None else ""

    def _ranked(self, steps: Iterable[int]) -> list[int]:
        """Of `steps` the best, as many as stay; of equal ones the earlier. A step that was not measured is none of them."""
        if self.best is None:
            return []
        figures, sign = self._known(), -1 if self.best.direction == "higher" else 1
        return sorted(figures.keys() & set(steps), key=lambda step: (sign * figures[step], step))[: self.best.count]

    def _known(self) -> dict[int, float]:
        """The figure after each step that has one, what was written since the last time taken in."""
        if not self.run.metrics.is_file():
            return self._figures
        with self.run.metrics.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        stage = VALIDATION.rstrip("/") if self._of_validation else STAGE
        for row in rows_in(whole.decode("utf-8", "replace")):
            value = row.get(self._name)
            if row.get("stage") == stage and isinstance(value, int | float) and math.isfinite(value):
                self._figures[row["step"]] = float(value)
        return self._figures
