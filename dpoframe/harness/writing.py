"""Answers to a file of prompts, without any evaluator: what `dpoframe generate` does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpoframe.config.assembly import Assembly
from dpoframe.config.document import scalar_or_tree
from dpoframe.errors import ConfigError, Fault
from dpoframe.harness.opening import find, split
from dpoframe.harness.phases.generating import generate
from dpoframe.harness.phases.laying import rows_of
from dpoframe.harness.phases.work import Work
from dpoframe.harness.sharding import own_device
from dpoframe.harness.storage.folder import EvalFolder
from dpoframe.harness.storage.store import claimed, opened, prepare
from dpoframe.harness.subject import Progress, silent
from dpoframe.harness.suites.prompt_rows import read_prompts
from dpoframe.harness.suites.suite import Suite
from dpoframe.harness.suites.suite_file import SuiteDocument

if TYPE_CHECKING:
    from dpoframe.plugins import PluginHost

_GENERATION = "generation."


def write_answers(
    model: str,
    prompts: Path,
    folder: Path,
    *,
    changes: Sequence[str] = (),
    plugins: PluginHost | None = None,
    progress: Progress = silent,
) -> Iterator[dict[str, Any]]:
    """Yields one object an answer, in the order of the prompts: what the row said, `sample`, `response`, `finished`, `detail`.

    Args:
        model: As for `dpoframe.harness.evaluate.evaluate`.
        prompts: A file of rows with `prompt`, and `id` where they have one.
        folder: Where answers are kept as they come, so that a run that was cut off goes on. Media lie in its `blobs/`.
        changes: `key=value`: generation settings, `samples`, `seed`, and the modality's fields under `modality.`.
        plugins: Where parts are; the installed ones unless given.
        progress: Told of every answer, as the stage `generate`.

    Raises:
        ConfigError: A row or a setting is wrong.
        CheckpointError: There is no such model.
        DataError: The model cannot be asked this.
    """
    own, rest = split(changes)
    suite = asked(prompts, rest, plugins)
    found = find(model, own, plugins)
    found.require(suite)
    with claimed(folder):
        subject = found.subject(own_device())
        prepare(folder)
        with opened(folder) as store:
            work = Work(suite, EvalFolder(folder), store, progress=progress)
            plan = generate(work, subject)
            for row in rows_of(work, plan):
                name, _, number = row.id.rpartition("#")
                answer = {"response": row.response, "finished": row.finished, "detail": dict(row.detail)}
                yield {**row.meta, "id": name, "sample": int(number), "prompt": row.prompt, **answer}


def asked(file: Path, changes: Sequence[str], plugins: PluginHost | None = None) -> Suite:
    """A file of prompts as a suite that measures nothing."""
    from dpoframe.plugins import host

    place = file.expanduser().resolve()
    build = Assembly(SuiteDocument({"prompts": str(place)}, str(file), kind="suite"), plugins or host())
    prompts = read_prompts(build, str(place))
    faults = [*build.faults, *(Fault("", str(error)) for error in build.machine)]
    settings = _settings(changes, faults)
    if not prompts and not faults:
        faults.append(Fault(str(file), "holds no prompt."))
    if faults:
        raise ConfigError(f"The prompts of {file} cannot be asked:", faults)
    samples, seed = settings.pop("samples", 1), settings.pop("seed", 0)
    return Suite(file.stem, "1", "", prompts, (), settings, samples, seed, ())


def _settings(changes: Sequence[str], faults: list[Fault]) -> dict[str, Any]:
    """The changes as generation settings; `samples` and `seed` are whole numbers."""
    found: dict[str, Any] = {}
    for change in changes:
        key, _, text = change.partition("=")
        found[key.strip().removeprefix(_GENERATION)] = scalar_or_tree(text)
    for name, low in (("samples", 1), ("seed", 0)):
        value = found.get(name, low)
        if type(value) is not int or value < low:
            faults.append(Fault(f"--set {name}", f"is {value!r}; it must be a whole number of at least {low}."))
    return found


def json_line(row: Mapping[str, Any]) -> str:
    """An answer as a line of JSON."""
    return json.dumps(row, ensure_ascii=False) + "\n"
