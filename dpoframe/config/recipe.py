"""The resolved recipe: every part made, every default filled in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python

from dpoframe.config.document import write
from dpoframe.config.secrets import masked
from dpoframe.config.sections import DataSection, EvaluateSection, Part, ReferenceSection, TrainerSection, WeightedLoss


@dataclass(frozen=True)
class Recipe:
    """One training run, checked. `load_recipe` makes it; `to_yaml` gives the file that repeats it.

    Attributes:
        modality: The model and how it scores; `value` is a `Modality`.
        data: Where the preferences come from.
        loss: The losses to sum; each part's `value` is a `Loss`.
        reference: What the policy is compared with.
        trainer: How the training goes.
        evaluate: Names or files of the suites to run before and after.
        reporters: Where numbers go besides the run folder; each `value` is a `Reporter`.
        plugins: Plugins to call besides those that supply a part.
        seed: All randomness of the run follows from it.
        name: The run's name.
        description: What the recipe is for, in a sentence.
        suppliers: Plugins that supply what those parts use in their turn: the data sets of a mixture, the suites of `evaluate`,
            and the evaluators and data sets of these.
        during: How they are run on the way, where `evaluate` says more than their names.
    """

    modality: Part
    data: DataSection
    loss: tuple[WeightedLoss, ...]
    reference: ReferenceSection
    trainer: TrainerSection
    evaluate: tuple[str, ...] = ()
    reporters: tuple[Part, ...] = ()
    plugins: tuple[str, ...] = ()
    seed: int = 0
    name: str = "run"
    description: str = ""
    suppliers: tuple[str, ...] = ()
    during: EvaluateSection | None = None

    @property
    def active_plugins(self) -> tuple[str, ...]:
        """Plugins whose run hooks are called: those named, then the suppliers of what the recipe uses, without repeats."""
        suppliers = [self.modality.plugin, self.data.plugin, self.data.validation_plugin]
        suppliers += [one.part.plugin for one in self.loss] + [part.plugin for part in self.reporters]
        return tuple(dict.fromkeys(name for name in [*self.plugins, *suppliers, *self.suppliers] if name))

    def to_dict(self, *, secrets: bool = False) -> dict[str, Any]:
        """The recipe as plain values, every default shown; secrets masked, but where another process is to load it."""
        losses = [_loss(one) for one in self.loss]
        made: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "modality": _part(self.modality),
            "data": _data(self.data),
            "loss": losses[0] if len(losses) == 1 else losses,
            "reference": _reference(self.reference),
            "trainer": fields_of(self.trainer),
            "evaluate": list(self.evaluate) if self.during is None else plain(self.during),
            "reporters": [_part(part) for part in self.reporters],
            "plugins": list(self.plugins),
            "seed": self.seed,
        }
        return made if secrets else dict(masked(made))

    def to_yaml(self) -> str:
        """The same as YAML; `load_recipe` of it gives an equal recipe, but for masked secrets."""
        return write(self.to_dict())


def fields_of(value: Any) -> dict[str, Any]:
    """The recipe keys of a dataclass instance with plain values."""
    return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}


def plain(value: Any) -> Any:
    """`value` in YAML's types: paths become strings, tuples lists."""
    return to_jsonable_python(value, fallback=str)


def _part(part: Part) -> dict[str, Any]:
    return {"name": part.name, **fields_of(part.value)}


def _loss(loss: WeightedLoss) -> dict[str, Any]:
    shown = {"weight": loss.weight} if loss.weight != 1.0 else {}
    return {**_part(loss.part), **shown}


def _data(data: DataSection) -> dict[str, Any]:
    options: Mapping[str, Any] = plain(dict(data.options))
    return {
        "name": data.name,
        **options,
        "validation": plain(data.validation),
        "limit": data.limit,
        "allow": list(data.allow),
        "window": data.window,
    }


def _reference(reference: ReferenceSection) -> dict[str, Any]:
    shown = {"ema": ("decay",), "cached": ("folder",)}.get(reference.kind, ())
    return {"kind": reference.kind, **{name: plain(getattr(reference, name)) for name in shown}}
