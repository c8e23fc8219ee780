"""A benchmark suite: which prompts, how answers are made, which evaluators read them. Written in YAML, read strictly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from dpoframe.errors import ConfigError, DpoframeError, Fault, suggestion
from dpoframe.evaluator import Evaluator
from dpoframe.plugins import PluginHost, host
from dpoframe.types import Content, PreferencePair, RefusedRow, Request, content_digest


@dataclass(frozen=True)
class Prompt:
    """One prompt of a suite; `meta` is what its row says besides (an expected answer, a category)."""

    id: str
    content: Content
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """A suite that is ready to run.

    Attributes:
        name: The suite's name.
        version: Changed by its author whenever results of the old and the new would not compare.
        description: What it measures, in a sentence.
        prompts: What the model is asked; may be empty where there are pairs.
        pairs: Held-out pairs that the model scores; may be empty.
        generation: Settings handed to `Modality.generate` with every request.
        samples: Answers a prompt.
        seed: Every request's seed is a digest of this, the prompt's id and the sample's number.
        evaluators: The measurements, in the order of the report.
    """

    name: str
    version: str
    description: str
    prompts: tuple[Prompt, ...]
    pairs: tuple[PreferencePair, ...]
    generation: Mapping[str, Any]
    samples: int
    seed: int
    evaluators: tuple[Evaluator, ...]

    def requests(self) -> list[Request]:
        """One request a prompt and sample; the id is the prompt's id, `#` and the sample's number."""
        from dpoframe.rng import seed_of

        return [
            Request(f"{prompt.id}#{number}", prompt.content, seed_of(self.seed, prompt.id, number), self.generation)
            for prompt in self.prompts
            for number in range(self.samples)
        ]

    def digest(self) -> str:
        """Digest of everything that decides the suite's numbers, but the model."""
        rows = [[prompt.id, content_digest(prompt.content), dict(prompt.meta)] for prompt in self.prompts]
        parts = {
            "name": self.name,
            "version": self.version,
            "prompts": rows,
            "pairs": [[pair.id, content_digest(pair.prompt, pair.chosen, pair.rejected)] for pair in self.pairs],
            "generation": dict(self.generation),
            "samples": self.samples,
            "seed": self.seed,
            "evaluators": [[one.spec.id, one.spec.version, repr(one)] for one in self.evaluators],
        }
        return hashlib.blake2b(json.dumps(parts, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


class _Document(BaseModel):
    """The YAML file's keys."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    version: str | int
    description: str = ""
    prompts: str | list[str | dict[str, Any]] = Field(default_factory=list)
    pairs: str | dict[str, Any] | None = None
    generation: dict[str, Any] = Field(default_factory=dict)
    samples: int = Field(default=1, ge=1)
    seed: int = 0
    evaluators: list[str | dict[str, Any]] = Field(min_length=1)


def load_suite(source: str | Path, plugins: PluginHost | None = None) -> Suite:
    """Reads a suite: a YAML file's path, or the name of a suite that a plugin ships.

    Raises:
        ConfigError: With every fault found: unknown keys, missing files, unknown evaluators, rows without a prompt.
    """
    found = plugins or host()
    file = _file(source, found)
    document = _document(file)
    faults: list[Fault] = []
    suite = Suite(
        name=document.name,
        version=str(document.version),
        description=document.description,
        prompts=_prompts(document.prompts, file, faults),
        pairs=_pairs(document.pairs, file, found, faults),
        generation=document.generation,
        samples=document.samples,
        seed=document.seed,
        evaluators=tuple(filter(None, (_evaluator(entry, n, found, faults) for n, entry in enumerate(document.evaluators)))),
    )
    faults += _unmet(suite)
    if faults:
        raise ConfigError(f"The suite {file} cannot be used:", faults)
    return suite


def _file(source: str | Path, plugins: PluginHost) -> Path:
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigError(
                f"There is no suite file {path}.", [Fault("", "Give a path that exists, or a name from `dpoframe suites`.")]
            )
        return path
    return Path(plugins.get("suite", str(source)))


def _document(file: Path) -> _Document:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"The suite {file} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"The suite {file} must hold keys such as name, prompts and evaluators; it holds {type(content).__name__}."
        )
    try:
        return _Document.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"The suite {file} cannot be used:", _faults(error, _Document.model_fields)) from error


def _faults(error: ValidationError, known: Mapping[str, Any]) -> list[Fault]:
    """One fault a place; a union's several complaints about one place are joined."""
    messages: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        place = str(detail["loc"][0]) if detail["loc"] else ""
        hint = suggestion(place, known) if detail["type"] in ("extra_forbidden", "unexpected_keyword_argument") else ""
        messages.setdefault(place, []).append(
            f"unknown key. {hint}".strip() if hint or "extra" in detail["type"] else detail["msg"]
        )
    return [Fault(place, "; or: ".join(dict.fromkeys(texts))) for place, texts in messages.items()]


def _prompts(value: str | Sequence[str | Mapping[str, Any]], file: Path, faults: list[Fault]) -> tuple[Prompt, ...]:
    where = "prompts"
    if isinstance(value, str):
        path = file.parent / value
        where = str(path)
        if not path.is_file():
            faults.append(Fault("prompts", f"there is no file {path}."))
            return ()
        value = _rows(path, faults)
    made = [_prompt(row, number, where, faults) for number, row in enumerate(value, 1)]
    prompts = [prompt for prompt in made if prompt is not None]
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            faults.append(Fault(where, f"two prompts have the id {prompt.id!r}.", "Give each its own id."))
        seen.add(prompt.id)
    return tuple(prompts)


def _rows(path: Path, faults: list[Fault]) -> list[Any]:
    rows: list[Any] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                faults.append(Fault(f"{path}:{number}", f"not JSON: {error.msg}."))
    return rows


def _prompt(row: Any, number: int, where: str, faults: list[Fault]) -> Prompt | None:
    if isinstance(row, str):
        row = {"prompt": row}
    content = row.get("prompt") if isinstance(row, Mapping) else None
    if not (isinstance(content, str | list) and content):
        faults.append(Fault(f"{where}:{number}", "a prompt row needs a key `prompt` with text or chat messages."))
        return None
    meta = {key: value for key, value in row.items() if key not in ("id", "prompt")}
    return Prompt(str(row.get("id") or content_digest(content)[:12]), content, meta)


def _pairs(value: Any, file: Path, plugins: PluginHost, faults: list[Fault]) -> tuple[PreferencePair, ...]:
    """Held-out pairs: a JSON Lines file beside the suite, or a data set section as in a recipe."""
    if value is None:
        return ()
    section = {"name": "jsonl", "path": value} if isinstance(value, str) else dict(value)
    if isinstance(section.get("path"), str):
        section["path"] = str(file.parent / section["path"])
    try:
        rows = list(plugins.get("dataset", str(section.pop("name", "jsonl")))(**section))
    except (DpoframeError, TypeError, OSError) as error:
        faults.append(Fault("pairs", str(error)))
        return ()
    faults += [Fault(f"{row.source}:{row.row}", row.reason) for row in rows if isinstance(row, RefusedRow)]
    return tuple(row for row in rows if isinstance(row, PreferencePair))


def _evaluator(entry: str | Mapping[str, Any], number: int, plugins: PluginHost, faults: list[Fault]) -> Evaluator | None:
    options = {"name": entry} if isinstance(entry, str) else dict(entry)
    name = str(options.pop("name", ""))
    where = f"evaluators[{number}]"
    try:
        kind = plugins.get("evaluator", name)
        made: Evaluator = TypeAdapter(kind).validate_python(options)
    except DpoframeError as error:
        faults.append(Fault(where, str(error)))
    except ValidationError as error:
        known = getattr(kind, "__dataclass_fields__", {})
        faults += [Fault(f"{where}.{name}.{fault.where}", fault.message) for fault in _faults(error, known)]
    else:
        return made
    return None


def _unmet(suite: Suite) -> list[Fault]:
    """Evaluators whose samples the suite never makes, two of one id, and those that cannot run on this machine."""
    from dpoframe.evaluator import Refused

    faults = []
    seen: set[str] = set()
    for evaluator in suite.evaluators:
        spec = evaluator.spec
        if spec.id in seen:
            faults.append(Fault("evaluators", f"two evaluators give the metric {spec.id!r}."))
        seen.add(spec.id)
        if spec.needs == "pair" and not suite.pairs:
            faults.append(Fault("pairs", f"the evaluator {spec.id!r} reads held-out pairs, and the suite has none."))
        if spec.needs != "pair" and not suite.prompts:
            faults.append(Fault("prompts", f"the evaluator {spec.id!r} reads answers, and the suite has no prompts."))
        if isinstance(state := evaluator.probe(), Refused):
            faults.append(Fault("evaluators", f"{spec.id!r} cannot run here: {state.reason}", state.fix))
    return faults
