"""TensorBoard and CSV files, through Lightning's own loggers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpoframe.errors import MissingExtraError
from dpoframe.reporter import Reporter, ReporterSession, RunInfo

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


@dataclass(frozen=True)
class Tensorboard(Reporter):
    """Writes TensorBoard event files.

    Attributes:
        folder: Where to; `tensorboard` inside the run folder if not given.
    """

    folder: Path | None = None

    def start(self, run: RunInfo) -> ReporterSession:
        """Opens the event file."""
        from lightning.pytorch.loggers import TensorBoardLogger

        place = (self.folder or run.folder / "tensorboard") / own_part(run)
        try:
            logger = TensorBoardLogger(str(place), name=None, version="")
        except ModuleNotFoundError as error:
            raise MissingExtraError("The reporter tensorboard", "tensorboard", "pip install 'dpoframe[tensorboard]'") from error
        return LoggerSession(logger)


@dataclass(frozen=True)
class Csv(Reporter):
    """Writes `metrics.csv`: one row a step, training and validation side by side.

    Attributes:
        folder: Where to; `csv` inside the run folder if not given.
    """

    folder: Path | None = None

    def start(self, run: RunInfo) -> ReporterSession:
        """Opens the file."""
        from lightning.pytorch.loggers import CSVLogger

        place = (self.folder or run.folder / "csv") / own_part(run)
        # Lightning's logger starts a file anew: a resumed run's rows so far are given to it again.
        (place / "metrics.csv").unlink(missing_ok=True)
        session = LoggerSession(CSVLogger(str(place), name=None, version=""))
        for row in rows_so_far(run):
            session.log(row)
        return session


@dataclass
class LoggerSession(ReporterSession):
    """A Lightning logger that is given the rows of metrics.jsonl."""

    logger: Logger

    def log(self, row: Mapping[str, Any]) -> None:
        """The numbers of a row, under `train/` or its stage's name."""
        stage = row.get("stage", "train")
        numbers = {f"{stage}/{name}": float(value) for name, value in row.items() if name != "step" and is_number(value)}
        self.logger.log_metrics(numbers, step=int(row["step"]))

    def summary(self, values: Mapping[str, Any]) -> None:
        """Final figures, as the last row's."""

    def finish(self, status: str) -> None:
        """Writes what is buffered and closes."""
        self.logger.save()
        self.logger.finalize("success" if status == "finished" else "aborted")


def rows_so_far(run: RunInfo) -> Iterator[dict[str, Any]]:
    """The rows that a run which goes on has in metrics.jsonl already."""
    file = run.folder / "metrics.jsonl"
    if run.job == "train" and file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):  # a last line that was cut off
                yield json.loads(line)


def own_part(run: RunInfo) -> str:
    """The folder of a job's files: evaluations lie beside the training's, not over them."""
    return "" if run.job == "train" else run.job


def is_number(value: Any) -> bool:
    """Whether a row's value can be drawn as a curve."""
    return isinstance(value, int | float) and not isinstance(value, bool)
