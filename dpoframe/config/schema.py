"""The JSON Schema of recipes, for editors: completion, help and red underlines while writing."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pydantic

from dpoframe.config.filling import adapter, signature_class, takes_any
from dpoframe.config.recipe import Recipe
from dpoframe.config.sections import DataKeys, DataSection, EvaluateSection, LossKeys, ReferenceSection, TopKeys, TrainerSection
from dpoframe.errors import DpoframeError

if TYPE_CHECKING:
    from dpoframe.plugins import PluginHost

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_CORE = (TopKeys, DataKeys, EvaluateSection, LossKeys, ReferenceSection, TrainerSection)
_FILE = {"type": "string", "pattern": r"\.py(:[A-Za-z_]\w*)?$"}
_ENTRY = re.compile(r" {4}(?P<name>\w+)(?: \([^)]*\))?: (?P<text>.*)")
_REFERENCE = "#/$defs/{model}"


def recipe_schema(host: PluginHost) -> dict[str, Any]:
    """The schema (draft 2020-12) of every recipe that the host's parts allow.

    A section with a part is a choice between the installed parts, told apart by `name`; a part that cannot be imported here
    is left out, and a part out of a file (`./mine.py:Thing`) may have any keys.
    """
    adapters: dict[tuple[str, str], pydantic.TypeAdapter[Any]] = {}
    open_ended: set[tuple[str, str]] = set()
    for kind in ("modality", "dataset", "loss", "reporter"):
        for name in host.names(kind):
            found = _adapter(host, kind, name)
            if found is not None:
                adapters[kind, name] = found
                if kind == "dataset" and takes_any(host.get(kind, name)):
                    open_ended.add((kind, name))
    documents: dict[tuple[str, str], Any] = {(kind, name): host.get(kind, name) for kind, name in adapters}
    core = {("core", one.__name__): adapter(one) for one in _CORE}
    inputs = [((kind, name), "validation", one) for (kind, name), one in {**core, **adapters}.items()]
    made, shared = pydantic.TypeAdapter.json_schemas(inputs, ref_template=_REFERENCE)  # type: ignore[arg-type]
    definitions = dict(shared.get("$defs", {}))
    documents.update(
        {("core", one.__name__): one for one in _CORE} | {("core", "DataKeys"): DataSection, ("core", "TopKeys"): Recipe}
    )
    bodies = {key: described(_body(found, definitions), documents[key]) for (key, _), found in made.items()}
    return _recipe(bodies, definitions, adapters, open_ended, host)


def _recipe(
    bodies: dict[Any, dict[str, Any]],
    definitions: dict[str, Any],
    adapters: Iterable[tuple[str, str]],
    open_ended: set[tuple[str, str]],
    host: PluginHost,
) -> dict[str, Any]:
    def choice(kind: str, extra: dict[str, Any]) -> dict[str, Any]:
        known = [name for found, name in adapters if found == kind]
        parts = [_part(bodies[kind, name], name, extra, (kind, name) in open_ended) for name in known]
        from_file = {"type": "object", "properties": {"name": _FILE}, "required": ["name"]}
        return {"oneOf": [{"anyOf": [{"enum": known}, _FILE], "type": "string"}, *parts, from_file]}

    definitions["modality"] = choice("modality", {})
    definitions["data"] = choice("dataset", bodies["core", "DataKeys"]["properties"])
    definitions["loss"] = choice("loss", bodies["core", "LossKeys"]["properties"])
    definitions["reporter"] = choice("reporter", {})
    properties = {
        **bodies["core", "TopKeys"]["properties"],
        "modality": _ref("modality"),
        "data": _ref("data"),
        "loss": {"anyOf": [_ref("loss"), {"type": "array", "items": _ref("loss"), "minItems": 1}]},
        "reference": {"anyOf": [bodies["core", "ReferenceSection"], {"enum": ["copy", "adapter", "cached", "none", "ema"]}]},
        "trainer": bodies["core", "TrainerSection"],
        "reporters": {"type": "array", "items": _ref("reporter")},
    }
    properties["evaluate"] = {
        "description": properties["evaluate"].pop("description", ""),
        "anyOf": [{**properties["evaluate"], "examples": [host.names("suite")]}, bodies["core", "EvaluateSection"]],
    }
    return {
        "$schema": DIALECT,
        "title": "dpoframe recipe",
        "type": "object",
        "properties": properties,
        "required": ["modality", "data"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _adapter(host: PluginHost, kind: str, name: str) -> pydantic.TypeAdapter[Any] | None:
    """What pydantic makes of a part; None where the part cannot be imported, or has fields that no schema can describe."""
    try:
        part = host.get(kind, name)
        made = pydantic.TypeAdapter(signature_class(part, name)) if kind == "dataset" else adapter(part)
        made.json_schema()
    except (DpoframeError, pydantic.errors.PydanticUserError, NameError):
        return None
    return made


def _body(found: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A schema's own object, taken out of the shared definitions where pydantic put it there."""
    if "$ref" in found:
        return dict(definitions[found["$ref"].removeprefix("#/$defs/")])
    return dict(found)


def described(body: dict[str, Any], documented: Any) -> dict[str, Any]:
    """`body` with a description of each property: what the class's or function's docstring says of it."""
    lines = field_lines(inspect.getdoc(documented) or "")
    properties = {name: {**found, **_description(lines, name)} for name, found in body.get("properties", {}).items()}
    return {**body, "properties": properties}


def field_lines(text: str) -> dict[str, str]:
    """What the sections `Attributes:` and `Args:` of a docstring say, by name."""
    found: dict[str, list[str]] = {}
    inside, name = False, ""
    for line in text.splitlines():
        if line and not line.startswith(" "):
            inside, name = line.strip() in ("Attributes:", "Args:"), ""
        elif inside and (match := _ENTRY.fullmatch(line)):
            name = match["name"]
            found[name] = [match["text"]]
        elif inside and name and line.strip():
            found[name].append(line.strip())
    return {name: " ".join(lines) for name, lines in found.items()}


def _description(lines: dict[str, str], name: str) -> dict[str, str]:
    return {"description": lines[name]} if name in lines else {}


def _part(body: dict[str, Any], name: str, extra: dict[str, Any], open_ended: bool) -> dict[str, Any]:
    """The alternative of one part: its fields, its name, and the core's own keys beside them."""
    properties = {"name": {"const": name}, **body.get("properties", {}), **extra}
    made = {**body, "title": name, "type": "object", "properties": properties}
    made["required"] = ["name", *body.get("required", [])]
    made["additionalProperties"] = open_ended
    return made


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}
