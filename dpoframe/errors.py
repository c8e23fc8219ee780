"""The errors of dpoframe.

    DpoframeError                 exit code 1
      ConfigError                 2  a recipe, suite or command line is wrong; carries every fault found
        UnknownNameError          2  a name nobody supplies; suggests the nearest
      DataError                   2  a data set cannot be used
      PluginError                 2  a plugin is broken, clashes with another, or breaks its contract
      CheckpointError             2  a run folder or model folder cannot be read
      TrainingError               1  the run itself cannot go on (a loss that is not finite)
      UnscoredError               1  an evaluator cannot score a sample; the harness notes the reason and goes on
      MachineError                3  the machine lacks something (disk, permission, a sandbox)
        MissingExtraError         3  a library is not installed; carries the exact install command

Messages say what was given, what was expected and what to do next. The command line prints them without a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class DpoframeError(Exception):
    """Base of everything dpoframe raises on purpose."""

    exit_code = 1


@dataclass(frozen=True)
class Fault:
    """One thing wrong: `where` (a key path or file:row), `message`, and `fix` (the next step, may be empty)."""

    where: str
    message: str
    fix: str = ""

    def __str__(self) -> str:
        head = f"{self.where}: {self.message}" if self.where else self.message
        return f"{head} {self.fix}".rstrip()


class ConfigError(DpoframeError):
    """A recipe, a suite or an option is wrong. `faults` holds all that was found, not only the first."""

    exit_code = 2

    def __init__(self, message: str, faults: Sequence[Fault] = ()) -> None:
        self.faults = tuple(faults)
        lines = (str(fault).replace("\n", "\n    ") for fault in self.faults)
        super().__init__("\n".join([message, *(f"  - {line}" for line in lines)]))


class UnknownNameError(ConfigError):
    """A name that no installed plugin supplies."""


class DataError(DpoframeError):
    """A data set is missing, empty, or not in a layout that can be read."""

    exit_code = 2


class PluginError(DpoframeError):
    """A plugin is broken, clashes with another, or breaks its contract."""

    exit_code = 2


class CheckpointError(DpoframeError):
    """A run folder or a model folder is missing, incomplete or of another kind."""

    exit_code = 2


class TrainingError(DpoframeError):
    """The run cannot go on, for a reason in the training itself."""


class UnscoredError(DpoframeError):
    """Raised by an evaluator's `score`: this sample cannot be scored, for the reason in the message.

    Attributes:
        again: Whether the trouble is not the sample's, such as a service that does not answer: the sample is asked about
            again in the next run, and after some such errors in a row the rest of the samples is left to that run.
    """

    def __init__(self, reason: str, *, again: bool = False) -> None:
        self.again = again
        super().__init__(reason)


class MachineError(DpoframeError):
    """This machine lacks something that the job needs."""

    exit_code = 3


class MissingExtraError(MachineError):
    """A library that the job needs is not installed."""

    def __init__(self, needed_for: str, package: str, install: str) -> None:
        self.install = install
        super().__init__(f"{needed_for} needs the package {package!r}, which is not installed. Install it with: {install}")


def suggestion(given: str, known: Iterable[str]) -> str:
    """`Did you mean 'x'?` for the nearest known name, or an empty string where none is near."""
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.6)
    return f"Did you mean {near[0]!r}?" if near else ""
