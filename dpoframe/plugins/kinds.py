"""The kinds of parts a plugin can supply, and what a part of each kind must be."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin

from dpoframe.errors import PluginError
from dpoframe.evaluator import Evaluator, EvaluatorSpec
from dpoframe.loss import Loss
from dpoframe.modality import Modality
from dpoframe.reporter import Reporter

KINDS: Mapping[str, str] = {
    "modality": "dpoframe_modalities",
    "dataset": "dpoframe_datasets",
    "loss": "dpoframe_losses",
    "evaluator": "dpoframe_evaluators",
    "suite": "dpoframe_suites",
    "recipe": "dpoframe_recipes",
    "reporter": "dpoframe_reporters",
}
"""Kind of part to the hook that supplies it."""

PLURALS: Mapping[str, str] = {
    "modality": "modalities",
    "dataset": "data sets",
    "loss": "losses",
    "evaluator": "evaluators",
    "suite": "suites",
    "recipe": "recipes",
    "reporter": "reporters",
}
"""Kind to what a sentence calls several."""

SINGULARS: Mapping[str, str] = {**{kind: kind for kind in KINDS}, "dataset": "data set"}
"""Kind to what a sentence calls one such part."""

BASES: Mapping[str, type] = {"modality": Modality, "loss": Loss, "evaluator": Evaluator, "reporter": Reporter}
"""Kinds whose parts are classes, with the class each must subclass."""

FILES = frozenset({"suite", "recipe"})
"""Kinds whose parts are files."""

PART_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
FILE_MODULES = "dpoframe.plugins.files."
TARGET = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*)")


def fault_of_part(kind: str, value: Any) -> str:
    """What is wrong with a part that was supplied or imported, in words; empty where it is as its kind demands."""
    if kind in FILES:
        return "" if isinstance(value, Path) else f"must be a pathlib.Path of a YAML file, but is {_describe(value)}"
    if kind == "dataset":
        return "" if callable(value) else f"must be a callable that returns pairs, but is {_describe(value)}"
    base = BASES[kind]
    if not (isinstance(value, type) and issubclass(value, base)):
        return f"must be a subclass of dpoframe.{base.__name__}, but is {_describe(value)}"
    return _fault_of_class(value)


def fault_of_entry(kind: str, name: Any, value: Any) -> str:
    """What is wrong with one entry of the mapping that a plugin's hook returned; empty where it may stand."""
    if not (isinstance(name, str) and PART_NAME.fullmatch(name)):
        return f"the name {name!r} must be a string of letters, digits, '.', '_' and '-' that starts with a letter or digit"
    if name.endswith((".py", ".yaml", ".yml")):
        return f"the name {name!r} ends like a file's, and would be taken for one"
    if isinstance(value, str) and kind not in FILES:
        return "" if TARGET.fullmatch(value) else f"{name!r} is {value!r}, but a target is written 'package.module:Name'"
    fault = fault_of_part(kind, value)
    return fault and f"{name!r} {fault}"


def require_part(kind: str, label: str, value: Any) -> Any:
    """The value itself where it is as its kind demands; PluginError, which names it by `label`, where not."""
    if fault := fault_of_part(kind, value):
        raise PluginError(f"{label} {fault}.")
    if kind in FILES and not value.is_file():
        raise PluginError(f"{label} points to {value}, which does not exist. The distribution was packed without it.")
    return value


def _fault_of_class(value: type) -> str:
    """What keeps a class of the right base from being used."""
    if missing := sorted(getattr(value, "__abstractmethods__", ())):
        return f"leaves {', '.join(missing)} unwritten"
    forgotten = [name for name, kind in inspect.get_annotations(value).items() if not _is_class_variable(kind)]
    if forgotten and "__dataclass_fields__" not in vars(value):
        return f"has the fields {', '.join(forgotten)} but lacks the decorator @dataclass(frozen=True)"
    if issubclass(value, Evaluator) and not isinstance(getattr(value, "spec", None), EvaluatorSpec):
        return "lacks the class attribute `spec`, a dpoframe.EvaluatorSpec"
    return ""


def _is_class_variable(annotation: Any) -> bool:
    """Whether an annotation, possibly still a string, says ClassVar."""
    return "ClassVar" in (annotation if isinstance(annotation, str) else str(get_origin(annotation) or annotation))


def _describe(value: Any) -> str:
    """A value in an error message: a class by its name, anything else by its type."""
    if isinstance(value, type):
        kind = "dataclass" if dataclasses.is_dataclass(value) else "class"
        # The module of a single file has a name made of its path, and the message names that file already.
        home = "" if value.__module__.startswith(FILE_MODULES) else f"{value.__module__}."
        return f"the {kind} {home}{value.__qualname__}"
    return f"{value!r:.80} ({type(value).__name__})"
