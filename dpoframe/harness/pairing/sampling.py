"""Several answers a prompt from a model, kept in the folder of an evaluation without evaluators: what pairs are made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpoframe.data.rows import RowError
from dpoframe.errors import ConfigError, DataError, Fault, MachineError
from dpoframe.harness.opening import Opening, find, split
from dpoframe.harness.pairing.candidates import right_answer
from dpoframe.harness.run import run_suite
from dpoframe.harness.sharding import Ranks
from dpoframe.harness.subject import Progress
from dpoframe.harness.suites.needs import refusals
from dpoframe.harness.suites.suite import Suite
from dpoframe.harness.suites.suite_file import read_suite
from dpoframe.harness.writing import asked

if TYPE_CHECKING:
    import torch

    from dpoframe.plugins import PluginHost

SAMPLES = 8
"""Answers a prompt where neither the command nor a suite says how many."""

_GENERATION, _MODALITY, _PROMPTS = "generation.", "modality.", "prompts."


@dataclass(frozen=True)
class Sampling:
    """Which answers are to be sampled.

    Attributes:
        model: A run folder, a model folder or a name on the hub, as `dpoframe eval` takes it.
        prompts: A suite's name or YAML file, or a file of rows with `prompt`; what else a row says is the samples' `meta`.
        samples: Answers a prompt; the suite's own number, or `SAMPLES`, where None.
        seed: From which each answer's own seed follows; the suite's, or 0, where None.
        folder: Where answers are kept as they come, so that a run that was cut off goes on.
        reference: Where a row holds the right answer that samples are held against; empty where none is.
    """

    model: str
    prompts: str
    samples: int | None = None
    seed: int | None = None
    folder: Path | None = None
    reference: str = ""


@dataclass(frozen=True)
class Drawing:
    """A model that was found, and what it is asked; no weights are read yet."""

    found: Opening
    suite: Suite
    folder: Path

    def draw(self, progress: Progress, ranks: Ranks, device: torch.device) -> Path:
        """Samples what is not in the folder yet, and returns the folder, which is then a source of stored answers.

        Args:
            progress: Told of every answer.
            ranks: This process among those that share the work; each reads the weights.
            device: Where the model goes.

        Raises:
            ConfigError: another command is sampling into the folder.
            MachineError: something is missing on this machine.
        """
        run_suite(self.found.subject(device), self.suite, self.folder, progress=progress, ranks=ranks)
        return self.folder


def apart(changes: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of `--set` that say what is sampled (`generation.`, `modality.`, `prompts.`), and those for the evaluator."""
    ours = [one for one in changes if one.strip().startswith((_GENERATION, _MODALITY, _PROMPTS))]
    return ours, [one for one in changes if one not in ours]


def prepared(wanted: Sampling, changes: Sequence[str], plugins: PluginHost, *, alone: bool = True) -> Drawing:
    """Reads the prompts and finds the model.

    Args:
        wanted: Model, prompts and numbers.
        changes: `generation.key=value`, `modality.key=value`, and for a suite `prompts.key=value`.
        plugins: Where suites and modalities are.
        alone: Whether there are no other answers, which could bring the right ones.

    Raises:
        CheckpointError: there is no such model.
        ConfigError: a row, a setting or a number is wrong, or the settings give one and the same answer each time.
        DataError: the model cannot be asked this.
        MachineError: what the suite relies on is not here.
    """
    assert wanted.folder is not None
    own, rest = split(changes)
    _require_free(wanted.folder)
    suite = _suite(wanted, rest, plugins)
    if wanted.reference:
        suite = _with_right_answers(suite, wanted, alone)
    found = find(wanted.model, own, plugins)
    found.require(suite)
    if suite.samples > 1 and not suite.backend.draws(found.modality, suite.generation):
        raise ConfigError(
            f"{suite.samples} answers a prompt are wanted, and these generation settings give the same one each time. "
            "Say --set generation.temperature=0.8, or --samples 1."
        )
    return Drawing(found, suite, wanted.folder)


def _require_free(folder: Path) -> None:
    """Raises `ConfigError` where the folder holds an evaluation, whose figures would be replaced."""
    try:
        held = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if held.get("order"):
        raise ConfigError(
            f"{folder} holds the evaluation {held.get('suite')!r}, whose figures would be lost. Name it as a SOURCE to use its "
            "answers, or give another folder with --answers."
        )


def _suite(wanted: Sampling, changes: Sequence[str], plugins: PluginHost) -> Suite:
    """What is asked, with no evaluator."""
    numbers = {"samples": wanted.samples, "seed": wanted.seed}
    said = [*changes, *(f"{name}={value}" for name, value in numbers.items() if value is not None)]
    if not _is_suite(wanted.prompts, plugins):
        if stray := [one for one in changes if one.strip().startswith(_PROMPTS)]:
            raise ConfigError(f"--set {stray[0]} is a key of a suite's prompts, and --prompts {wanted.prompts} is a file of rows.")
        default = [] if wanted.samples is not None else [f"samples={SAMPLES}"]
        return asked(Path(wanted.prompts), [*said, *default], plugins)
    read = read_suite(wanted.prompts, plugins, said)
    if read.runs_itself or not read.prompts:
        raise DataError(f"The suite {read.name} has no prompts that answers could be sampled to.")
    suite = replace(read, evaluators=(), pairs=())
    if refused := refusals(suite):
        raise MachineError("\n".join(map(str, refused)))
    return suite


def _with_right_answers(suite: Suite, wanted: Sampling, alone: bool) -> Suite:
    """The suite whose prompts hold their right answers as the core has them: a picture that a row names becomes `Media`.

    ConfigError where one is no answer, or there is none at all and `alone`.
    """
    key, folder = wanted.reference, Path(wanted.prompts).expanduser().parent
    made, faults = list(suite.prompts), []
    for number, prompt in enumerate(suite.prompts):
        try:
            if (answer := right_answer(prompt.meta, key, folder)) is not None:
                made[number] = replace(prompt, meta={**prompt.meta, key: answer})
        except RowError as fault:
            faults.append(Fault(f"prompt {prompt.id}", fault.reason))
    if faults:
        raise ConfigError("These right answers cannot be used:", faults)
    if alone and not any(prompt.meta.get(key) for prompt in made):
        there = ", ".join(sorted({name for prompt in made for name in prompt.meta})) or "nothing else"
        raise ConfigError(f"No prompt of {suite.name} has a right answer under {key!r}. Say --reference NAME; rows have: {there}.")
    return replace(suite, prompts=tuple(made))


def _is_suite(prompts: str, plugins: PluginHost) -> bool:
    """Whether the prompts are a suite's, rather than a file of rows."""
    if prompts.endswith((".yaml", ".yml")):
        return True
    return not Path(prompts).expanduser().exists() and (prompts in plugins.names("suite") or "." not in Path(prompts).name)
