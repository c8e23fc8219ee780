"""Makes a recipe out of a document, section by section, and collects everything that is wrong on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from dpoframe.config.document import Document, KeyPath
from dpoframe.config.filling import fill, keys, signature_class, takes_any
from dpoframe.config.sections import (
    MIXTURE,
    DataKeys,
    DataSection,
    EvaluateSection,
    HeldOutKeys,
    LossKeys,
    Part,
    ReferenceSection,
    SourceKeys,
    TopKeys,
    TrainerSection,
    WeightedLoss,
)
from dpoframe.errors import DpoframeError, Fault, MachineError, suggestion

if TYPE_CHECKING:
    from dpoframe.plugins import PluginHost

T = TypeVar("T")

SECTIONS = ("modality", "data", "loss", "reference", "trainer", "reporters")
_EXAMPLES = {
    "modality": "For example: modality: {name: text, model: HuggingFaceTB/SmolLM2-135M-Instruct}",
    "data": "For example: data: {name: jsonl, path: pairs.jsonl}",
}
_DURING = "evaluate: {suites: [chat-mini], every: 50, keep_best: {metric: chat-mini/contains_expected}, patience: 3}"


class Assembly:
    """The making of one recipe.

    Attributes:
        faults: What is wrong with the recipe.
        machine: What the machine lacks for it (a package that a part needs).
    """

    def __init__(self, document: Document, host: PluginHost) -> None:
        self.document = document
        self.host = host
        self.faults: list[Fault] = []
        self.machine: list[MachineError] = []

    def top(self) -> TopKeys | None:
        """The plain keys of the top level; also refuses keys that belong nowhere, or in another section."""
        given = {key: value for key, value in self.document.data.items() if key not in SECTIONS}
        deeper = set(keys(TrainerSection)) | {"lora"}
        for key in [key for key in given if key in deeper and key not in keys(TopKeys)]:
            section = "modality" if key == "lora" else "trainer"
            self.fault((key,), "is no key of the top level.", f"It belongs under {section}: as {section}.{key}.")
            del given[key]
        if isinstance(given.get("evaluate"), Mapping):
            del given["evaluate"]
        return self.filled(TopKeys, given, (), SECTIONS)

    def evaluation(self) -> EvaluateSection | None:
        """What is evaluated on the way, where `evaluate` is a mapping."""
        given = self.document.data.get("evaluate")
        made = self.filled(EvaluateSection, given, ("evaluate",)) if isinstance(given, Mapping) else None
        if made is None:
            return None
        for key, needs in (("limit", "every"), ("keep_best", "every"), ("patience", "keep_best")):
            if getattr(made, key) is not None and getattr(made, needs) is None:
                self.fault(("evaluate", key), f"needs evaluate.{needs}.", "For example: " + _DURING)
        return made

    def modality(self) -> Part | None:
        """The modality, which every recipe needs."""
        return self.part("modality", self.required("modality"), ("modality",))

    def data(self) -> DataSection | None:
        """The data section: the core's own keys, the data set's arguments, and those of the validation data set."""
        given = self.required("data")
        given = {"name": given} if isinstance(given, str) else given
        if not isinstance(given, Mapping):
            if given is not None:
                self.fault(("data",), f"is {given!r:.80}, but should be a mapping with the data set's name.", _EXAMPLES["data"])
            return None
        own = self.filled(DataKeys, {key: given[key] for key in keys(DataKeys) if key in given}, ("data",))
        rest = {key: value for key, value in given.items() if key not in keys(DataKeys)}
        found = self.source(rest, ("data",), keys(DataKeys))
        if own is None:
            return None
        validation, plugin = self._held_out(own.validation)
        if found is None:
            return None
        return DataSection(found[0], found[1], validation, own.limit, own.allow, own.window, found[2], plugin)

    def losses(self) -> tuple[WeightedLoss, ...]:
        """The losses; `sigmoid` where none is given. A single one may stand without a list, or be a bare name."""
        given = self.document.data.get("loss", "sigmoid")
        many = given if isinstance(given, list) else [given]
        if not many:
            self.fault(("loss",), "is an empty list.", "Name at least one loss, such as sigmoid.")
        made = [self._loss(one, ("loss", index) if isinstance(given, list) else ("loss",)) for index, one in enumerate(many)]
        return tuple(loss for loss in made if loss is not None)

    def reporters(self) -> tuple[Part, ...]:
        """The reporters; none where none is given."""
        given = self.document.data.get("reporters") or []
        if not isinstance(given, list):
            self.fault(("reporters",), f"is {given!r:.80}, but should be a list.", "For example: reporters: [{name: wandb}]")
            return ()
        made = [self.part("reporter", one, ("reporters", index)) for index, one in enumerate(given)]
        return tuple(part for part in made if part is not None)

    def reference(self) -> ReferenceSection | None:
        """The reference section; a bare word stands for its kind."""
        given = self.document.data.get("reference") or {}
        given = {"kind": given} if isinstance(given, str) else given
        made = self.section(ReferenceSection, given, "reference")
        for key, kind in (("decay", "ema"), ("folder", "cached")):
            if made is not None and key in given and made.kind != kind:
                self.fault(("reference", key), f"belongs to kind {kind}, but the kind is {given.get('kind', 'left open')}.")
        return made

    def trainer(self) -> TrainerSection | None:
        """The trainer section."""
        return self.section(TrainerSection, self.document.data.get("trainer") or {}, "trainer")

    def section(self, kind: type[T], given: Any, name: str) -> T | None:
        """One of the core's own sections."""
        if not isinstance(given, Mapping):
            self.fault((name,), f"is {given!r:.80}, but should be a mapping.", f"Its keys: {', '.join(keys(kind))}.")
            return None
        return self.filled(kind, given, (name,))

    def part(self, kind: str, given: Any, path: KeyPath, others: Iterable[str] = ()) -> Part | None:
        """The part that `given` sets up: its class found by name, its fields filled."""
        named = self.named(kind, given, path)
        if named is None:
            return None
        name, rest = named
        found = self.attempt((*path, "name"), lambda: (self.host.get(kind, name), self.host.owner(kind, name).name))
        if found is None:
            return None
        value = self.filled(found[0], rest, path, ["name", *others])
        return None if value is None else Part(name, value, found[1])

    def source(self, given: Any, path: KeyPath, others: Iterable[str] = ()) -> tuple[str, dict[str, Any], str] | None:
        """A data set's name, its arguments with every default, and its plugin."""
        named = self.named("dataset", given, path)
        if named is None:
            return None
        name, rest = named
        found = self.attempt((*path, "name"), lambda: (self.host.get("dataset", name), self.host.owner("dataset", name).name))
        kind = found and self.attempt(path, lambda: signature_class(found[0], f"The data set {name!r}"))
        if not found or not kind:
            return None
        # What the signature does not name is the data set's own to check, where it takes any keyword.
        free = {key: value for key, value in rest.items() if key not in keys(kind)} if takes_any(found[0]) else {}
        bound = {key: value for key, value in rest.items() if key not in free}
        filled = self.filled(kind, bound, path, ["name", *others])
        inside = {"sources": self._sources(rest.get("sources"), (*path, "sources"))} if name == MIXTURE else {}
        if filled is None:
            return None
        return name, {**{field.name: getattr(filled, field.name) for field in fields(filled)}, **free, **inside}, found[1]

    def _sources(self, given: Any, path: KeyPath) -> list[dict[str, Any]]:
        """The data sets inside a mixture, each with every default; what is no list of mappings is told by the mixture's types."""
        if given == []:
            self.fault(path, "is an empty list.", "A mixture needs at least one source, such as {name: jsonl, path: pairs.jsonl}.")
        made = []
        for index, one in enumerate(given if isinstance(given, list) else ()):
            if not isinstance(one, Mapping):
                continue
            own = self.filled(SourceKeys, {key: one[key] for key in keys(SourceKeys) if key in one}, (*path, index))
            rest = {key: value for key, value in one.items() if key not in keys(SourceKeys)}
            found = self.source(rest, (*path, index), keys(SourceKeys))
            if own is not None and found is not None:
                made.append({"name": found[0], **found[1], "weight": own.weight})
        return made

    def named(self, kind: str, given: Any, path: KeyPath) -> tuple[str, dict[str, Any]] | None:
        """The name and the other keys of a part; a bare word is a name."""
        if given is None:
            return None
        given = {"name": given} if isinstance(given, str) else given
        if not isinstance(given, Mapping):
            self.fault(path, f"is {given!r:.80}, but should be a mapping with the {kind}'s name.", "For example: {name: ...}")
            return None
        rest = dict(given)
        name = rest.pop("name", None)
        if isinstance(name, str) and name:
            return name, rest
        known = ", ".join(self.host.names(kind)) or "none"
        what = "is required." if name is None else f"is {name!r:.80}, but should be a word."
        self.fault((*path, "name"), what, f"Installed: {known}.")
        return None

    def filled(self, kind: type[T], given: Mapping[str, Any], path: KeyPath, others: Iterable[str] = ()) -> T | None:
        """An instance of a dataclass; None, its faults noted, where it cannot be made."""
        made = self.attempt(path, lambda: fill(kind, given, path, self.document, others))
        if made is None:
            return None
        self.faults += made[1]
        return made[0]  # type: ignore[no-any-return]

    def required(self, section: str) -> Any:
        """A section that must be there."""
        given = self.document.data.get(section)
        if given is None:
            near = suggestion(section, (key for key in self.document.data if key not in SECTIONS))
            self.fault((section,), "is required.", near or _EXAMPLES[section])
        return given

    def attempt(self, path: KeyPath, job: Callable[[], T]) -> T | None:
        """What `job` returns; None, its error noted as a fault at `path`, where it fails on purpose."""
        try:
            return job()
        except MachineError as error:
            self.machine.append(error)
        except DpoframeError as error:
            self.fault(path, str(error))
        return None

    def fault(self, path: KeyPath, message: str, fix: str = "") -> None:
        """Notes one fault."""
        self.faults.append(Fault(self.document.where(path), message, fix))

    def _held_out(self, given: Any) -> tuple[Any, str]:
        """The validation as it is used, and the plugin of its data set where it is one of its own."""
        if not isinstance(given, Mapping):
            return given or None, ""
        path = ("data", "validation")
        own = self.filled(HeldOutKeys, {key: given[key] for key in keys(HeldOutKeys) if key in given}, path)
        rest = {key: value for key, value in given.items() if key not in keys(HeldOutKeys)}
        found = self.source(rest, path, keys(HeldOutKeys))
        if found is None or own is None:
            return None, ""
        return {"name": found[0], **found[1], "limit": own.limit}, found[2]

    def _loss(self, given: Any, path: KeyPath) -> WeightedLoss | None:
        weight: LossKeys | None = LossKeys()
        if isinstance(given, Mapping):
            weight = self.filled(LossKeys, {key: given[key] for key in keys(LossKeys) if key in given}, path)
            given = {key: value for key, value in given.items() if key not in keys(LossKeys)}
        elif given is None:
            self.fault(path, "is empty.", "Name a loss, such as sigmoid.")
        part = self.part("loss", given, path, keys(LossKeys))
        return WeightedLoss(part, weight.weight) if part is not None and weight is not None else None
