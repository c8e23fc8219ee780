"""The contract of a reporter: where a run's numbers go besides the run folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar


@dataclass(frozen=True)
class RunInfo:
    """What a reporter is told at the start.

    Attributes:
        folder: The run folder.
        name: The run's name.
        recipe: The resolved recipe, secrets masked.
        environment: Content of environment.json.
        job: `train` or `eval`.
    """

    folder: Path
    name: str
    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]
    job: str = "train"


@dataclass(frozen=True)
class Reporter(ABC):
    """Subclass as a frozen dataclass: its fields are its recipe keys.

    Called on rank 0 only. Whatever a reporter raises is turned into one warning and the reporter is left out of the
    rest of the run: reporting never fails or blocks a run. State that a live run needs belongs in what `start` returns.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    @abstractmethod
    def start(self, run: RunInfo) -> ReporterSession:
        """Opens the reporting of one run."""


class ReporterSession:
    """One run's open reporting. Every method may be left out."""

    def log(self, row: Mapping[str, Any]) -> None:
        """One row of metrics.jsonl."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table of samples."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Final figures."""

    def artifact(self, kind: str, name: str, path: Path) -> None:
        """A folder or file that the run produced (`model`, `report`)."""

    def finish(self, status: str) -> None:
        """The run is over: `finished`, `interrupted` or `failed`."""
