"""Where a run's rows go: metrics.jsonl, always, and the recipe's reporters, which may fail without harm."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from dpoframe.checkpoint.durable import reason
from dpoframe.config.secrets import scrubbed
from dpoframe.errors import MachineError
from dpoframe.reporter import Reporter, ReporterSession, RunInfo
from dpoframe.train.folder import RunFolder, line


@dataclass
class Reporters(ReporterSession):
    """All reporters of a run as one. One that raises is named in a warning and left out of the rest of the run."""

    sessions: dict[str, ReporterSession] = field(default_factory=dict)

    @classmethod
    def open(cls, reporters: Sequence[tuple[str, Reporter]], run: RunInfo) -> Reporters:
        """Starts each reporter."""
        made = cls()
        for number, (name, reporter) in enumerate(reporters):
            key = name if name not in made.sessions else f"{name}-{number}"
            with guarded(key):
                made.sessions[key] = reporter.start(run)
        return made

    def log(self, row: Any) -> None:
        """One row of metrics.jsonl."""
        self._all(lambda session: session.log(row))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table of samples."""
        self._all(lambda session: session.table(name, columns, rows))

    def summary(self, values: Any) -> None:
        """Final figures."""
        self._all(lambda session: session.summary(values))

    def artifact(self, kind: str, name: str, path: Path) -> None:
        """A folder or file that the run produced."""
        self._all(lambda session: session.artifact(kind, name, path))

    def finish(self, status: str) -> None:
        """The run is over."""
        self._all(lambda session: session.finish(status))
        self.sessions = {}

    def _all(self, act: Callable[[ReporterSession], None]) -> None:
        for name, session in list(self.sessions.items()):
            with guarded(name) as outcome:
                act(session)
            if outcome.failed:
                del self.sessions[name]


@dataclass
class Outcome:
    """Whether what was tried failed."""

    failed: bool = False


@contextlib.contextmanager
def guarded(name: str) -> Iterator[Outcome]:
    """Context in which an error of the reporter `name` becomes a warning."""
    outcome = Outcome()
    try:
        yield outcome
    except (Exception, SystemExit) as error:
        outcome.failed = True
        told = scrubbed(f"{type(error).__name__}: {error}")
        message = f"The reporter {name!r} failed and is left out of the rest of the run: {told}"
        warnings.warn(message, RuntimeWarning, stacklevel=3)


class Reporting(Callback):
    """Writes rows on rank 0 and passes them to the reporters.

    Args:
        folder: The run folder.
        reporters: The recipe's, by name.
        run: What they are told at the start.
        every: Steps between two rows.
        export: Writes the model, when the run has come to its end.
    """

    def __init__(
        self, folder: RunFolder, reporters: Sequence[tuple[str, Reporter]], run: RunInfo, every: int, export: Callable[[], Path]
    ) -> None:
        self.folder, self.reporters, self.run, self.every, self.export = folder, reporters, run, every, export
        self.live = Reporters()
        self.last: dict[str, Any] = {}
        self._clock = (0.0, 0)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Opens the reporters."""
        if trainer.is_global_zero:
            self.live = Reporters.open(self.reporters, self.run)
        self._clock = (time.perf_counter(), pl_module.progress["tokens"])

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, *args: Any) -> None:
        """Writes the step's row where it is time."""
        row = outputs["row"]
        if trainer.is_global_zero and (
            row["step"] % self.every == 0 or row.get("skipped") or trainer.global_step == pl_module.steps
        ):
            now, (then, before) = time.perf_counter(), self._clock
            self._clock = (now, row["tokens"])
            self.write({**row, "tokens_per_second": (row["tokens"] - before) / max(now - then, 1e-9)})

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Writes the validation's row; its time does not count as training time."""
        if trainer.is_global_zero:
            self.write(pl_module.validation_row)
        self._clock = (time.perf_counter(), pl_module.progress["tokens"])

    def write(self, row: dict[str, Any]) -> None:
        """Adds a row."""
        try:
            with self.folder.metrics.open("a", encoding="utf-8") as file:
                file.write(line(row))
        except OSError as error:
            raise MachineError(f"{self.folder.metrics} could not be written ({reason(error)}).") from error
        self.last = self.last | row
        self.live.log(row)

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Exports the model and closes the reporters; also where the last step was done before, and no training begins."""
        pl_module.layout.gather(trainer)
        if trainer.is_global_zero:
            self.live.artifact("model", self.run.name, self.export())
            self.live.summary({f"final/{name}": value for name, value in self.last.items() if name != "stage"})
            self.live.finish("finished")

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Closes the reporters of a run that did not come to its end."""
        interrupted = isinstance(exception, KeyboardInterrupt) or hasattr(exception, "step")
        self.live.finish("interrupted" if interrupted else "failed")
