"""From what a person calls a model to a `Subject`: a run folder, an exported model, another model's folder, a hub's name."""

from __future__ import annotations

import importlib.util
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpoframe.checkpoint.model import RECORD, kind_of, made_of, modality_of, model_folder
from dpoframe.config.document import read_file, scalar_or_tree
from dpoframe.errors import CheckpointError, ConfigError, DataError, DpoframeError, Fault, MissingExtraError, UnknownNameError
from dpoframe.harness.subject import Subject
from dpoframe.harness.suites.suite import Suite
from dpoframe.modality import Modality
from dpoframe.types import Content, Example

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dpoframe.plugins import PluginHost

_OWN = "modality."


@dataclass(frozen=True)
class Opening:
    """A model that was found, and of which no weights are read yet.

    Attributes:
        name: What reports call it.
        modality: How it scores and writes.
        folder: Where its weights lie; None where the modality finds them by its own fields.
        run: The run folder it came from.
        base: What reports call the model before training; empty where there is none to be had.
        seed: The run's seed, from which what is made fresh in the base follows.
    """

    name: str
    modality: Modality
    folder: Path | None = None
    run: Path | None = None
    base: str = ""
    seed: int = 0

    @property
    def evaluations(self) -> Path:
        """Where its evaluations go unless told otherwise: into the run, or a folder of its name under `eval/`."""
        return self.run / "eval" if self.run is not None else Path("eval") / _as_folder(self.name)

    @property
    def evaluations_before(self) -> Path:
        """The same for the model before training."""
        return self.run / "base" / "eval" if self.run is not None else Path("eval") / _as_folder(self.base)

    def subject(self, device: torch.device | None = None) -> Subject:
        """Reads the weights."""
        model = self.modality.load(self.folder) if self.folder is not None else self.modality.build()
        return Subject(self.name, self.modality, _moved(model.eval(), device))

    def before(self, subject: Subject, device: torch.device | None = None) -> Subject | None:
        """The model before training: `subject` with its adapter off, else built anew from what the modality names.

        None, with a warning where something is missing, where it cannot be had.
        """
        if not self.base:
            return None
        # A class may offer `disable_adapter` where no adapter is on: only one whose weights are frozen keeps the base.
        if hasattr(subject.model, "disable_adapter") and any(not one.requires_grad for one in subject.model.parameters()):
            return Subject(self.base, self.modality, subject.model, adapter_off=True)
        import torch

        torch.manual_seed(self.seed)
        try:
            return Subject(self.base, self.modality, _moved(self.modality.build().eval(), device))
        except DpoframeError as error:
            told = f"The model that {self.name} was trained from cannot be had, so margins compare it with itself: {error}"
            warnings.warn(told, RuntimeWarning, stacklevel=2)
            return None

    def require(self, suite: Suite) -> None:
        """Finds out before any weights are read whether the model can be asked what the suite asks, in the way it says.

        Raises:
            ConfigError: The generation settings are wrong.
            DataError: The prompts do not suit the model.
        """
        if suite.prompts:
            suite.backend.draws(self.modality, suite.generation)
        kinds: dict[str, Content] = {}
        for request in suite.requests():
            kinds.setdefault(_roles(request.prompt), request.prompt)
        for roles, prompt in kinds.items():
            if roles:
                try:
                    self.modality.measure(Example(prompt, "", 0, "prompt"))
                except DataError as error:
                    told = f"{self.name} cannot be asked what the suite {suite.name} asks: {error}"
                    raise DataError(f"{told} Here: --set modality.chat=never or --set modality.chat_template=...") from error


def find(model: str, changes: Mapping[str, Any] | None = None, plugins: PluginHost | None = None) -> Opening:
    """Finds a model by what a person calls it.

    Args:
        model: A run folder, a folder that dpoframe exported, a folder of transformers or peft, a name on the Hugging Face
            hub, a folder that an installed modality recognises, or whatever else the text modality takes, such as `smollm2`.
        changes: Fields of the modality to set to other values; `name` says which modality opens what dpoframe did not write.
        plugins: Where modalities are; the installed ones unless given.

    Raises:
        CheckpointError: There is no such folder, or no model in it.
        ConfigError: The changes do not suit the modality.
        MissingExtraError: The text modality is not installed, or what the model needs.
    """
    from dpoframe.plugins import host, using

    place = Path(model).expanduser()
    with using(plugins or host()) as known:
        if (folder := model_folder(place)) is not None:
            return _exported(place, folder, modality_of(folder, changes))
        _require_folder(model, place)
        own = dict(changes or {})
        kind = known.get("modality", str(own.pop("name"))) if "name" in own else _kind(model, place, known)
        made = made_of(kind, {**own, "model": model})
    if not place.is_dir():
        return Opening(model, made)
    # An adapter that is loaded onto its base can be switched off.
    return Opening(model, made, place.resolve(), base=f"base of {model}" if _is_adapter(place) else "")


def split(changes: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The words of `--set` that are the modality's, read as YAML, and the others."""
    own: dict[str, Any] = {}
    faults = []
    for change in changes:
        key, equals, text = change.partition("=")
        if key.strip().startswith(_OWN):
            own[key.strip().removeprefix(_OWN)] = scalar_or_tree(text)
        if not equals or not key.strip().removeprefix(_OWN):
            fix = "For example: --set generation.temperature=0"
            faults.append(Fault(f"--set {change}", "is not of the form key.sub=value.", fix))
    if faults:
        raise ConfigError("Some changes cannot be read:", faults)
    return own, [change for change in changes if not change.strip().startswith(_OWN)]


def _exported(place: Path, folder: Path, modality: Modality) -> Opening:
    """A folder with dpoframe's record: a run's, or one that stands alone."""
    run = folder.parent if folder.name == "model" and (folder.parent / "recipe.yaml").is_file() else None
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    base = str(getattr(modality, "model", "") or record["modality"])  # as `align` calls it
    if run is None:
        return Opening(str(place), modality, folder.resolve(), base=base)
    recipe = _recipe(run / "recipe.yaml")
    name = f"{base} aligned by {recipe.get('name') or run.name}"
    seed = recipe.get("seed", 0)
    return Opening(name, modality, folder.resolve(), run, base, seed if isinstance(seed, int) else 0)


def _recipe(file: Path) -> Mapping[str, Any]:
    try:
        return read_file(file).data
    except (OSError, ConfigError):
        return {}


def _require_folder(model: str, place: Path) -> None:
    """Raises `CheckpointError` for a path that leads nowhere: it would be taken for a name on the hub."""
    if place.exists() or str(place.parent) == "." or not place.parent.is_dir():
        return
    near = sorted(one.name for one in place.parent.iterdir() if one.is_dir())[:8]
    raise CheckpointError(f"There is no folder {model}. {place.parent} holds: {', '.join(near) or 'no folder'}.")


def _kind(model: str, place: Path, plugins: PluginHost) -> type[Modality]:
    try:
        kind = kind_of(place, plugins)
    except UnknownNameError as error:
        if importlib.util.find_spec("dpoframe_text") is None:
            raise MissingExtraError(f"The model {model!r}", "dpoframe-text", "pip install dpoframe-text") from error
        raise
    return kind


def _is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


def _moved(model: nn.Module, device: torch.device | None) -> nn.Module:
    """The model on a device; one in 4 bits stays where it was put."""
    if device is None or device.type == "cpu" or getattr(model, "is_quantized", False):
        return model
    return model.to(device)


def _roles(prompt: Content) -> str:
    """What a chat template is asked to write: the roles of the messages; empty for text and media."""
    if isinstance(prompt, str) or not isinstance(prompt, list | tuple):
        return ""
    return ",".join(str(message.get("role")) for message in prompt)


def _as_folder(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model"
