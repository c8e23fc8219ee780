"""Models on disk: the modality's own layout, plus `dpoframe.json`, which says how to open it."""

from __future__ import annotations

import inspect
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python
from safetensors import SafetensorError

from dpoframe.checkpoint.durable import reason
from dpoframe.config.secrets import MASK, masked, scrubbed
from dpoframe.errors import CheckpointError, ConfigError, Fault, MachineError, PluginError, suggestion
from dpoframe.modality import Modality
from dpoframe.plugins import PluginHost, host, named_by

if TYPE_CHECKING:
    from torch import nn

RECORD = "dpoframe.json"
CONSENT = "trust_remote_code"
"""A modality's field that lets code which a model brings run."""
LIBRARIES = ("dpoframe", "torch", "lightning", "transformers", "peft", "diffusers", "safetensors")


def export(
    modality: Modality, model: nn.Module, folder: Path, card: str, *, name: str = "", convention: dict[str, Any] | None = None
) -> None:
    """Writes a model in its ecosystem's own layout, with a card and a record of how to open it.

    The folder appears whole or not at all: it is written beside its place and renamed. One that was there is replaced.
    Secrets among the modality's fields are not written.

    Args:
        modality: Writes the model.
        model: What it writes.
        folder: Where to.
        card: Content of README.md.
        name: The modality's name in a recipe; found by its class among the installed ones unless given.
        convention: What the scores of training meant (losses and their settings), for those who compare checkpoints.

    Raises:
        MachineError: the disk is full or the folder may not be written.
    """
    folder = Path(folder)
    aside, old = folder.with_name(f".{folder.name}.{os.getpid()}.aside"), folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        aside.mkdir(parents=True)
        modality.save(model, aside)
        record = {
            "modality": name or registered_name(modality),
            "fields": masked(to_jsonable_python(asdict(modality), fallback=str)),
            "fingerprint": masked(modality.fingerprint()),
            "score_convention": convention or {},
            "versions": versions(),
        }
        (aside / RECORD).write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")
        (aside / "README.md").write_text(scrubbed(card), encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        try:
            aside.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    except (OSError, SafetensorError) as error:
        raise MachineError(
            f"The model could not be written to {folder} ({reason(error)}). Make room, then run with --resume."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def open_model(source: str | Path) -> tuple[Modality, nn.Module]:
    """Opens a model for scoring and generating, in evaluation mode.

    Args:
        source: A run folder, an exported folder, a folder that an installed modality recognises, or anything that the text
            modality loads (a folder, a hub id).

    Raises:
        CheckpointError: the folder holds no model that can be opened.
    """
    folder = model_folder(Path(source))
    if folder is None:
        modality = kind_of(Path(source), host())(model=str(source))  # type: ignore[call-arg]
        return modality, modality.build().eval()
    restored = modality_of(folder)
    return restored, restored.load(folder).eval()


def kind_of(source: Path, plugins: PluginHost) -> type[Modality]:
    """The modality of a model that dpoframe did not write: the first that recognises its folder, else `text`.

    Raises:
        UnknownNameError: no modality recognises it, and `text` is not installed.
    """
    for name in plugins.names("modality") if source.is_dir() else ():
        try:
            kind: type[Modality] = plugins.get("modality", name)
        except PluginError:  # broken: it is told of where it is asked for by name
            continue
        if kind.recognises(source):
            return kind
    text: type[Modality] = plugins.get("modality", "text")
    return text


def modality_of(folder: Path, changes: Mapping[str, Any] | None = None) -> Modality:
    """The modality that an exported folder records; no weights are read.

    What the record says comes from whoever wrote it: a Python file that it names is run only where this process runs it already
    or `DPOFRAME_TRUST_FILES` names its folder, and `trust_remote_code` must be among the changes to hold.

    Args:
        folder: The exported folder.
        changes: Fields of the modality to set to other values.

    Raises:
        CheckpointError: the record cannot be read.
        ConfigError: a change names no field of the modality, or gives one a value that it does not take.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        with named_by(str(folder / RECORD)):
            kind = host().get("modality", record["modality"])
        # A secret: its default, or the environment's. Consent: whoever opens the folder gives it, not whoever wrote it.
        fields = {key: value for key, value in record["fields"].items() if value != MASK and key != CONSENT}
        restored: Modality = TypeAdapter(kind).validate_python(fields)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError, RecursionError) as error:
        raise CheckpointError(f"{folder / RECORD} cannot be read, so the model cannot be opened: {error}") from error
    made = made_of(kind, {**fields, **changes}) if changes else restored
    made.settle(folder)
    return made


def made_of(kind: type[Modality], fields: Mapping[str, Any]) -> Modality:
    """A modality from its fields as a person gave them; ConfigError with every fault."""
    try:
        made: Modality = TypeAdapter(kind).validate_python(dict(fields))
    except ValidationError as error:
        known = getattr(kind, "__dataclass_fields__", {})
        faults = [_fault(detail, known) for detail in error.errors(include_url=False)]
        raise ConfigError(f"These settings do not suit the modality {kind.__name__}:", faults) from error
    return made


def _fault(detail: Any, known: Iterable[str]) -> Fault:
    where = str(detail["loc"][0]) if detail["loc"] else ""
    if detail["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return Fault(f"modality.{where}", "no such key.", suggestion(where, known))
    return Fault(f"modality.{where}".rstrip("."), str(detail["msg"]))


def model_folder(source: Path) -> Path | None:
    """The exported folder that a path means; None where the path is nothing of dpoframe's."""
    for folder in (source, source / "model"):
        if (folder / RECORD).is_file():
            return folder
    if (source / "recipe.yaml").is_file():
        command = f"dpoframe train {source / 'recipe.yaml'} --out {source} --resume"
        raise CheckpointError(f"{source} is a run that has no model yet. Finish it with: {command}")
    return None


def registered_name(modality: Modality) -> str:
    """The name under which an installed plugin supplies the modality; else its source file and class, which open it too."""
    known = host()
    kind = type(modality)
    for name in known.names("modality"):
        targets = [plugin.targets.get("modality", {}).get(name) for plugin in known.plugins]
        if kind in targets or f"{kind.__module__}:{kind.__qualname__}" in targets:
            return name
    try:
        return f"{inspect.getfile(kind)}:{kind.__qualname__}"
    except (TypeError, OSError):  # typed in by hand
        return kind.__qualname__


def versions() -> dict[str, str]:
    """Versions of the libraries that wrote the model."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
