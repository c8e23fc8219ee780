"""Makes instances of dataclasses from mappings, strictly, and says everything that is wrong with a mapping at once.

pydantic does the validation; this module adds what recipes need: keys refused with the nearest name at any depth, faults
named by key path and line, true and false never taken for 1 and 0, and data sets' signatures read as dataclasses.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pydantic
from pydantic.errors import PydanticUserError

from dpoframe.config.document import Document, KeyPath
from dpoframe.config.secrets import is_secret
from dpoframe.errors import DpoframeError, Fault, MachineError, PluginError, suggestion

_WORDS = {
    "int_parsing": "should be a whole number",
    "int_type": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_parsing": "should be a number",
    "float_type": "should be a number",
    "finite_number": "should be a finite number",
    "bool_parsing": "should be true or false",
    "bool_type": "should be true or false",
    "string_type": "should be text (in quotes, where it looks like a number)",
    "path_type": "should be a path",
    "string_pattern_mismatch": "should be letters, digits and any of ' .+:@=-', starting with a letter or digit",
    "list_type": "should be a list",
    "tuple_type": "should be a list",
    "dict_type": "should be a mapping",
    "mapping_type": "should be a mapping",
    "dataclass_type": "should be a mapping",
    "none_required": "should be null",
}
_STRAY = {"unexpected_keyword_argument", "extra_forbidden", "unexpected_positional_argument"}


def fill(
    kind: type, given: Mapping[str, Any], path: KeyPath, document: Document, others: Iterable[str] = ()
) -> tuple[Any, list[Fault]]:
    """An instance of the dataclass `kind` made from `given`, or None and what is wrong.

    Args:
        kind: A dataclass; its annotations decide what a value must be.
        given: Key to value.
        path: Where `given` stands in the document.
        document: For lines, and the folder of relative paths.
        others: Keys that stand beside these and are read elsewhere; only suggested.
    """
    faults = list(strays(kind, given, path, document, others))
    try:
        value = adapter(kind).validate_python(dict(given))
    except pydantic.ValidationError as error:
        return None, [*faults, *_translated(error, given, path, document)]
    except MachineError:
        raise
    except DpoframeError as error:
        return None, [*faults, Fault(document.where(path), str(error))]
    except (TypeError, ArithmeticError, AttributeError, LookupError) as error:
        # A plugin's __post_init__ that did not expect such values: the recipe's fault, so no traceback.
        message = f"{kind.__name__} refuses these values: {type(error).__name__}: {error}."
        return None, [*faults, Fault(document.where(path), message)]
    return (None, faults) if faults else (_absolute(value, path, document), [])


@functools.lru_cache(maxsize=256)
def adapter(kind: type) -> pydantic.TypeAdapter[Any]:
    """What pydantic makes of a dataclass; PluginError where a field's annotation is beyond it."""
    try:
        return pydantic.TypeAdapter(kind)
    except (PydanticUserError, NameError, TypeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise PluginError(
            f"The fields of {kind.__module__}.{kind.__qualname__} cannot be recipe keys: {reason}. Annotate them with plain "
            "types that exist at run time, not only under TYPE_CHECKING."
        ) from error


def signature_class(function: Callable[..., Any], name: str) -> type:
    """A dataclass with one field a parameter of `function`: required ones, annotated types, defaults.

    Raises:
        PluginError: a parameter can only be given by position.
    """
    hints = _hints(function)
    fields: list[tuple[str, Any, Any]] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise PluginError(f"{name}: the parameter {parameter.name!r} is positional-only, so no recipe key can give it.")
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        fields.append((parameter.name, hints.get(parameter.name, Any), _field(parameter.default)))
    made = dataclasses.make_dataclass(
        "Options", fields, kw_only=True, frozen=True, namespace={"__pydantic_config__": {"extra": "forbid"}}
    )
    made.__doc__ = function.__doc__
    return made


def takes_any(function: Callable[..., Any]) -> bool:
    """Whether `function` takes keywords beyond those it names."""
    return any(one.kind is one.VAR_KEYWORD for one in inspect.signature(function).parameters.values())


def keys(kind: type) -> list[str]:
    """The recipe keys of a dataclass."""
    return [field.name for field in dataclasses.fields(kind) if field.init]


def strays(kind: type, given: Mapping[str, Any], path: KeyPath, document: Document, others: Iterable[str] = ()) -> Iterator[Fault]:
    """Faults that pydantic would pass over: unknown keys, in nested dataclasses too, and true and false taken for 1 and 0."""
    known = keys(kind)
    hints = _hints(kind)
    for key, value in given.items():
        if key not in known:
            near = suggestion(str(key), [*known, *others])
            yield Fault(document.where((*path, key)), "is no key here.", near or f"Keys: {', '.join([*known, *others])}.")
            continue
        hint = hints.get(key, Any)
        if any(isinstance(item, bool) for item in (value if isinstance(value, list) else [value])) and _numbers_only(hint):
            yield Fault(document.where((*path, key)), f"is {value!r:.80}, but should be a number.")
        nested = _nested(hint)
        if nested is not None:
            yield from _nested_strays(nested, value, (*path, key), document)


def _nested_strays(kind: type, value: Any, path: KeyPath, document: Document) -> Iterator[Fault]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _nested_strays(kind, item, (*path, index), document)
    elif isinstance(value, Mapping):
        yield from strays(kind, value, path, document)


def _nested(hint: Any) -> type | None:
    """The one dataclass inside an annotation (`Lora | None`, `list[Lora]`), None where there is none or a choice."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint
    # Under a mapping's annotation the keys are free, so a dataclass in it does not name them.
    if isinstance(getattr(hint, "__origin__", None), type) and issubclass(hint.__origin__, Mapping):
        return None
    found = {kind for part in get_args(hint) if (kind := _nested(part)) is not None}
    return found.pop() if len(found) == 1 else None


def _numbers_only(hint: Any) -> bool:
    """Whether an annotation takes numbers but neither booleans nor anything."""
    leaves = set(_leaves(hint))
    return bool(leaves & {int, float}) and not leaves & {bool, object, Any}


def _leaves(hint: Any) -> Iterator[Any]:
    parts = get_args(hint)
    if parts and get_origin(hint) is not Literal:
        for part in parts:
            yield from _leaves(part)
    elif getattr(hint, "__hash__", None):
        yield hint


def _hints(target: Any) -> dict[str, Any]:
    """Annotations by name; empty where they cannot be evaluated."""
    source = vars(target).get("__init__", target) if isinstance(target, type) and not dataclasses.is_dataclass(target) else target
    try:
        return get_type_hints(source, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def _field(default: Any) -> Any:
    if default is inspect.Parameter.empty:
        return dataclasses.field()
    # Dataclasses refuse a list or dict as a default, functions do not.
    return dataclasses.field(default_factory=lambda: default)


def _translated(error: pydantic.ValidationError, given: Mapping[str, Any], path: KeyPath, document: Document) -> Iterator[Fault]:
    """The errors of pydantic as faults, one a key: the branches of a union are joined with `or`."""
    found: dict[KeyPath, list[str]] = {}
    seen: dict[KeyPath, Any] = {}
    for one in error.errors(include_url=False):
        if one["type"] in _STRAY:
            continue
        place = _place(one["loc"], given, one["type"] == "missing")
        seen[place] = one["input"] if one["type"] != "missing" else None
        found.setdefault(place, []).append(_message(one))
    for place, messages in found.items():
        where = document.where((*path, *place))
        if messages == ["is required"]:
            yield Fault(where, "is required.")
            continue
        shown = "***" if place and is_secret(place[-1], str(seen[place])) else f"{seen[place]!r:.80}"
        yield Fault(where, f"is {shown}, but {', or '.join(dict.fromkeys(messages))}.")


def _message(one: Any) -> str:
    if one["type"] == "missing":
        return "is required"
    if one["type"] in _WORDS:
        return _WORDS[one["type"]]
    text = str(one["msg"]).removeprefix("Value error, ").rstrip(".")
    return text.removeprefix("Input ")


def _place(location: Iterable[str | int], given: Any, missing: bool) -> KeyPath:
    """The location in an error of pydantic without the names of union branches, which are no keys of the recipe."""
    here, place = given, list[str | int]()
    items = list(location)
    for item in items:
        inside = (isinstance(here, Mapping) and item in here) or (
            isinstance(here, list) and isinstance(item, int) and item < len(here)
        )
        if inside:
            place.append(item)
            here = here[item]
    if missing and items:
        place.append(items[-1])
    return tuple(place)


def _absolute(value: Any, path: KeyPath, document: Document) -> Any:
    """A dataclass with every relative `Path` in its fields made absolute."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if not field.init:
            continue
        if isinstance(item, Path) and not item.is_absolute():
            changes[field.name] = (document.folder((*path, field.name)) / item.expanduser()).resolve()
        elif dataclasses.is_dataclass(item) and not isinstance(item, type):
            changed = _absolute(item, (*path, field.name), document)
            changes.update({field.name: changed} if changed is not item else {})
    return dataclasses.replace(value, **changes) if changes else value
