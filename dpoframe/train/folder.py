"""The run folder: what is in it, when it may be written to, and how it is brought back to a checkpoint."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpoframe.checkpoint import CheckpointFolder
from dpoframe.checkpoint.durable import ASIDE, durable, reason
from dpoframe.checkpoint.model import RECORD
from dpoframe.config.document import read_file
from dpoframe.config.recipe import Recipe
from dpoframe.errors import CheckpointError, ConfigError, Fault, MachineError
from dpoframe.train.changes import FIXED, differences, is_allowed
from dpoframe.train.claim import claimed


@dataclass(frozen=True)
class RunFolder:
    """The files of one run, by the layout that other programs rely on."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def environment(self) -> Path:
        """What the run was made with."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line for each logged step and each validation."""
        return self.path / "metrics.jsonl"

    @property
    def model(self) -> Path:
        """The exported model."""
        return self.path / "model"

    @property
    def checkpoints(self) -> CheckpointFolder:
        """Resumable states."""
        return CheckpointFolder(self.path / "checkpoints")

    @property
    def finished(self) -> bool:
        """Whether the run came to its end: the model is written last."""
        return (self.model / RECORD).is_file()

    def require_new(self) -> None:
        """Raises `ConfigError` where a run lies here already."""
        if any(os.path.exists(sign) for sign in (self.recipe, self.metrics, self.checkpoints.path)):  # noqa: PTH110
            state = "is finished" if self.finished else "can be resumed with --resume"
            raise ConfigError(
                f"There is a run in {self.path} already, which {state}. Give another folder with --out, or remove it."
            )

    @property
    def changes(self) -> Path:
        """What differed from the run's beginning where it went on, by leave of `--allow-change`."""
        return self.path / "changes.jsonl"

    def require_resumable(self, recipe: Recipe, allowed: Collection[str] = ()) -> list[Fault]:
        """As `require_recipe`; raises also where the run is finished."""
        if self.finished:
            raise CheckpointError(
                f"The run in {self.path} is finished: its model is {self.model}. Start a longer run with another --out."
            )
        return self.require_recipe(recipe, allowed)

    def require_recipe(self, recipe: Recipe, allowed: Collection[str] = ()) -> list[Fault]:
        """Raises where there is no run here, or where its recipe differs from this one in a key that may not.

        What may differ decides nothing, or is among `allowed` (keys, or sections of them); of the latter the differences
        are returned.
        """
        if not self.recipe.is_file():
            raise CheckpointError(
                f"There is no run to resume in {self.path}: it has no recipe.yaml. Leave --resume out to start one."
            )
        changed = differences(read_file(self.recipe).data, recipe)
        if faults := [fault for fault in changed if fault.where in FIXED or not is_allowed(fault.where, allowed)]:
            message = f"The run in {self.path} was made by another recipe and cannot go on with this one"
            raise ConfigError(
                f"{message}; give another folder with --out, or name what may change with --allow-change. What differs:", faults
            )
        return changed

    def require_place(self) -> None:
        """Raises `ConfigError` where no folder can ever be made: the path, or one above it, is a file."""
        for place in (self.path, *self.path.parents):
            if os.path.exists(place) and not place.is_dir():  # noqa: PTH110 - False, not an error, for a name too long
                raise ConfigError(f"{self.path} cannot be a run folder: {place} is no folder. Give another with --out.")

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Context in which the folder is there, swept of what broken-off writes left, and no other process writes to it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(f"The run folder {self.path} cannot be made ({reason(error)}). Give another with --out.") from error
        with claimed(self.path):
            self.sweep()
            yield

    def absent(self) -> list[Path]:
        """What a run writes here and is not there, the folder itself and those above it last."""
        own = (self.metrics, self.recipe, self.environment, self.path / "data", self.checkpoints.path)
        return [path for path in (*own, self.path, *self.path.parents) if not os.path.lexists(path)]

    @contextlib.contextmanager
    def taken_back(self, absent: Sequence[Path]) -> Iterator[None]:
        """Context that takes back what was `absent` before, where it ends by an error and no step was done.

        So the command can be mended and given again. Of folders only `data` and `checkpoints` go with what is in them.
        """
        try:
            yield
        except BaseException:
            if not (self.rows() or self.checkpoints.steps()):
                for path in absent:
                    with contextlib.suppress(OSError):
                        remove(path, whole=path.parent == self.path)
            raise

    def sweep(self) -> None:
        """Removes what broken-off writes left: files and models set aside, checkpoints without a manifest."""
        self.checkpoints.sweep()
        for left in (*self.path.glob(f".*{ASIDE}"), *self.path.glob(f".{self.model.name}.*.old")):
            with contextlib.suppress(OSError):
                remove(left, whole=True)

    def create(self, recipe: Recipe, environment: Mapping[str, Any]) -> None:
        """Writes environment and, last, the recipe, by which a run is known."""
        with durable(self.environment) as file:
            file.write((json.dumps(environment, indent=2, default=str) + "\n").encode())
        with durable(self.recipe) as file:
            file.write(recipe.to_yaml().encode())

    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl; a last line that was cut off, and whatever else is no row, is left out."""
        return rows_in(self.metrics.read_text(encoding="utf-8", errors="replace")) if self.metrics.is_file() else []

    def rewind(self, step: int) -> None:
        """Removes what a resume from `step` will write again: rows, and checkpoints, of which those after it are broken."""
        self.checkpoints.drop_after(step)
        kept = [row for row in self.rows() if row["step"] < step or (row["step"] == step and "stage" in row)]
        with durable(self.metrics) as file:
            file.write("".join(line(row) for row in kept).encode())


def rows_in(text: str) -> list[dict[str, Any]]:
    """The rows that lines of metrics.jsonl hold; what is no row is left out."""
    rows = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get("step"), int)]


def remove(path: Path, whole: bool) -> None:
    """Removes a file or a folder, the latter with what is in it only where `whole`."""
    if not path.is_dir() or path.is_symlink():
        path.unlink()
    elif whole:
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.rmdir()


def line(row: Mapping[str, Any]) -> str:
    """A row as one line of JSON; a number that is not finite becomes null, since JSON has no word for it."""
    plain = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
    return json.dumps(plain) + "\n"
