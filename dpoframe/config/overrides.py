"""`--set a.b.0.c=value`: changes to a recipe from the command line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from dpoframe.config.document import Document, KeyPath, scalar_or_tree
from dpoframe.errors import ConfigError, Fault


def apply(document: Document, overrides: Iterable[str]) -> list[Fault]:
    """Changes `document` in place, in the order given; returns what could not be done."""
    return [fault for override in overrides for fault in _apply_one(document, override)]


def _apply_one(document: Document, override: str) -> Iterator[Fault]:
    keys, equals, text = override.partition("=")
    path: KeyPath = tuple(keys.strip().split("."))
    if not equals or not all(path):
        yield Fault(f"--set {override}", "is not of the form key.sub=value.", "For example: --set trainer.lr=1e-5")
        return
    try:
        value = scalar_or_tree(text)
        document.given.add(_assign(document.data, path, value))
    except ConfigError as error:
        yield Fault(f"--set {override}", str(error))


def _assign(root: dict[str, Any], path: KeyPath, value: Any) -> KeyPath:
    """Sets the value at a path, making mappings that lack; returns the path with list positions as numbers."""
    here: Any = root
    taken: KeyPath = ()
    for depth, word in enumerate(path):
        key = _key(here, str(word), ".".join(map(str, taken)))
        taken = (*taken, key)
        if isinstance(here, list) and key == len(here):
            here.append(None)
        if depth == len(path) - 1:
            here[key] = value
        else:
            here[key] = _container(here[key] if isinstance(here, list) else here.get(key), taken)
            here = here[key]
    return taken


def _container(child: Any, taken: KeyPath) -> Any:
    """What the rest of a path goes into: a part that stands as a bare name is written out, nothing becomes a mapping."""
    entry = len(taken) == 2 and taken[0] in ("loss", "reporters")
    if isinstance(child, str) and (entry or taken in (("modality",), ("loss",), ("data",))):
        return {"name": child}
    if isinstance(child, str) and taken == ("reference",):
        return {"kind": child}
    return {} if child is None else child


def _key(here: Any, word: str, label: str) -> Any:
    """The word as a key of a mapping or a position in a list."""
    if isinstance(here, dict):
        return word
    if not isinstance(here, list):
        raise ConfigError(f"{label} is {here!r}, which has no keys.")
    if not word.isdecimal():
        raise ConfigError(f"{label} is a list of {len(here)}: name an entry by its position, as in {label}.0.{word}=...")
    if int(word) > len(here):
        raise ConfigError(f"{label} has {len(here)} entries, so the next free position is {len(here)}, not {word}.")
    return int(word)
