"""Specs that follow from an evaluator's fields: numbers of other settings do not compare, so settings stand in the id."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from dataclasses import replace
from typing import Any

from dpoframe import Asset, EvaluatorSpec

_NOT_IN_IDS = re.compile(r"[^\w.:>+-]+")


class SpecOf:
    """The spec of a class, and of an instance the one that its method `own` makes of it."""

    def __init__(self, plain: EvaluatorSpec) -> None:
        self.plain = plain

    def __get__(self, one: Any, kind: type | None = None) -> EvaluatorSpec:
        """The class's own where there is no instance."""
        found: EvaluatorSpec = self.plain if one is None else one.own(self.plain)
        return found


def named(plain: EvaluatorSpec, *settings: str, **changes: Any) -> EvaluatorSpec:
    """The spec with settings in its id, `rouge:porter:rule`; what a gate file would have to quote becomes a dash."""
    parts = [_NOT_IN_IDS.sub("-", one).strip("-") for one in settings]
    return replace(plain, id=":".join([plain.id, *filter(None, parts)]), **changes)


def installed(package: str, licence: str) -> tuple[Asset, ...]:
    """A library by its version, whose bytes differ from machine to machine; nothing where it is not installed."""
    try:
        name = f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return ()
    return (Asset(name, f"sha256:{hashlib.sha256(name.encode()).hexdigest()}", licence),)
