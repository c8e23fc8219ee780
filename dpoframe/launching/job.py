"""What goes from the command to its workers, and what comes back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dpoframe.config.recipe import Recipe
from dpoframe.config.secrets import scrubbed
from dpoframe.errors import DpoframeError, MachineError, MissingExtraError

SETTINGS = "DPOFRAME_"
"""How the environment variables begin that workers take over; all others are those of the machine they run on."""


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        recipe: As `load_recipe` takes it, secrets included; it is neither shown nor logged.
        folder: The run folder.
        resume: Whether to go on with the run there.
        allow_changes: As in `dpoframe.train.fit.fit`.
        settings: Environment variables of the command.
    """

    recipe: Mapping[str, Any] = field(repr=False)
    folder: Path
    resume: bool = False
    allow_changes: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Recipe, folder: Path, resume: bool = False, allow_changes: tuple[str, ...] = ()) -> Job:
        """A job of this process."""
        settings = {name: value for name, value in os.environ.items() if name.startswith(SETTINGS)}
        return cls(recipe.to_dict(secrets=True), folder, resume, allow_changes, settings)

    def load(self) -> Recipe:
        """The recipe, in a worker."""
        from dpoframe.config import load_recipe

        os.environ.update(self.settings)
        return load_recipe(self.recipe)


@dataclass(frozen=True)
class RayRun:
    """How a run on Ray ended.

    Attributes:
        folder: The run folder.
        steps: Optimizer steps done.
        final: The last value of each metric, those of evaluations under `eval/`.
        status: `finished` or `interrupted`.
        exit_code: 0, or 128 plus the number of the signal that interrupted it.
        tries: How often workers were started.
    """

    folder: Path
    steps: int
    final: Mapping[str, Any] = field(default_factory=dict)
    status: Literal["finished", "interrupted"] = "finished"
    exit_code: int = 0
    tries: int = 1

    @property
    def model(self) -> Path:
        """The exported model."""
        return self.folder / "model"


class WorkerError(DpoframeError):
    """An error of a worker, told by the command that started it; `kind` is its class there, and its exit code is kept."""

    def __init__(self, kind: str, message: str, exit_code: int = 1, final: bool = False) -> None:
        self.kind, self.message, self.exit_code, self.final = kind, message, exit_code, final
        super().__init__(kind, message, exit_code, final)

    def __str__(self) -> str:
        return self.message

    @classmethod
    def of(cls, error: BaseException) -> WorkerError:
        """What went wrong, without secrets. It is final where another try would end the same way."""
        kind = type(error).__name__
        if not isinstance(error, DpoframeError):
            return cls(kind, scrubbed(f"{kind}: {error}"))
        final = not isinstance(error, MachineError) or isinstance(error, MissingExtraError)
        return cls(kind, scrubbed(str(error)), error.exit_code, final)
