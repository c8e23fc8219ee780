"""Suites on a model that is named: what `dpoframe eval` does."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dpoframe.errors import ConfigError, Fault
from dpoframe.harness.comparison.comparable import OF_THE_BASE
from dpoframe.harness.opening import Opening, find, split
from dpoframe.harness.phases.laying import RIVAL
from dpoframe.harness.result import SuiteResult
from dpoframe.harness.run import run_suite
from dpoframe.harness.sharding import Ranks, launched
from dpoframe.harness.subject import Progress, Subject, silent
from dpoframe.harness.suites.loading import load_suite
from dpoframe.harness.suites.suite import Suite

if TYPE_CHECKING:
    import torch

    from dpoframe.plugins import PluginHost


def evaluate(
    model: str,
    suites: Sequence[str | Path],
    *,
    out: Path | None = None,
    limit: int | None = None,
    changes: Sequence[str] = (),
    devices: int = 1,
    base: str | None = None,
    plugins: PluginHost | None = None,
    progress: Progress = silent,
) -> tuple[SuiteResult, ...]:
    """Evaluates a model on suites; what is stored already is not done again.

    Args:
        model: A run folder, an exported model folder, a folder of transformers or peft, or a name on the Hugging Face hub.
        suites: Names of suites or their files.
        out: Each suite's results go into a folder of its name in here; by default `eval/` of the run folder, else `eval/`
            and the model's name. Where a limit cuts a suite, the folder's name says so.
        limit: Only the first so many prompts and pairs of each suite.
        changes: `key.sub=value`: keys of the suites, and of the modality under `modality.`.
        devices: Processes that share the work, each with the whole model, on a GPU of its own where there are any.
        base: The model to compare with, named as `model`; by default what the run was trained from.
        plugins: Where parts are; the installed ones unless given.
        progress: Told of every batch; a stage is `suite/stage`, with `base/` before it for answers to compare with.

    Raises:
        ConfigError: A suite or change is wrong, found before any weights are read.
        CheckpointError: There is no such model.
        DataError: The model cannot be asked what a suite asks.
        MachineError: Something is missing on this machine.
    """
    own, rest = split(changes)
    loaded = [load_suite(source, plugins, rest) for source in suites]
    _require_distinct(loaded)
    found, before = find(model, own, plugins), find(base, own, plugins) if base is not None else None
    for suite in loaded:
        found.require(suite)
    with launched(devices) as (ranks, device):
        job = _Job(found, before, device, ranks, limit, progress)
        return tuple(job.run(suite, out) for suite in loaded)


def folder_name(suite: Suite, limit: int | None) -> str:
    """The name of a suite's folder: a limited evaluation never takes the place of a whole one."""
    cut = limit is not None and suite.limited(limit).digest() != suite.digest()
    return f"{suite.name}-limit-{limit}" if cut else suite.name


class _Job:
    """One model and its base, their weights read when they are first needed."""

    def __init__(
        self, found: Opening, before: Opening | None, device: torch.device, ranks: Ranks, limit: int | None, progress: Progress
    ) -> None:
        self.found, self.before, self.device, self.ranks, self.limit = found, before, device, ranks, limit
        self.progress = progress
        self.subject = found.subject(device)
        self._base: list[Subject | None] = []

    def run(self, suite: Suite, out: Path | None) -> SuiteResult:
        """Evaluates the model on one suite, after the base where its answers are asked for and to be had."""
        name = folder_name(suite, self.limit)
        base = self.base() if _reads_base(suite) else None
        if self.before is None and not self.found.base and self.ranks.first:
            _tell_of_itself(self.found.name, suite)
        rivals = None
        if base is not None and any(one.spec.needs == RIVAL for one in suite.evaluators):
            rivals = self._evaluations_of_base(out) / name
            self._run(base, suite, rivals, None, None, "base/")
        return self._run(self.subject, suite, (out or self.found.evaluations) / name, base, rivals, "")

    def base(self) -> Subject | None:
        """The model before training, or the one that was named."""
        if not self._base:
            named = self.before.subject(self.device) if self.before is not None else None
            self._base.append(named or self.found.before(self.subject, self.device))
        return self._base[0]

    def _run(
        self, subject: Subject, suite: Suite, folder: Path, base: Subject | None, rivals: Path | None, head: str
    ) -> SuiteResult:
        def told(stage: str, done: int, total: int) -> None:
            if self.ranks.first:
                self.progress(f"{head}{suite.name}/{stage}", done, total)

        return run_suite(subject, suite, folder, base=base, rivals=rivals, limit=self.limit, ranks=self.ranks, progress=told)

    def _evaluations_of_base(self, out: Path | None) -> Path:
        if self.before is not None:
            return out / "base" if out is not None else self.before.evaluations
        return out / "base" if out is not None else self.found.evaluations_before


def _reads_base(suite: Suite) -> bool:
    """Whether some evaluator compares with the model before training."""
    return suite.runs_itself or any(one.spec.needs != "response" for one in suite.evaluators)


def _tell_of_itself(model: str, suite: Suite) -> None:
    """Warns that what an evaluator holds against a base is held against the model itself, where some evaluator does."""
    if relative := [one.spec.id for one in suite.evaluators if one.spec.relative and one.spec.needs in OF_THE_BASE]:
        told = f"No base is known of {model}, so preference and KL figures compare the model with itself"
        warnings.warn(f"{told} ({', '.join(relative)}): name one with --base.", RuntimeWarning, stacklevel=3)


def _require_distinct(suites: Sequence[Suite]) -> None:
    twice = [name for name, count in Counter(suite.name for suite in suites).items() if count > 1]
    if twice:
        raise ConfigError("Each suite has a folder of its own:", [Fault(name, "is named by two suites.") for name in twice])
