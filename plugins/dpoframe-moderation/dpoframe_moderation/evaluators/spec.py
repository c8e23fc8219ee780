"""Specs that follow from an evaluator's fields."""

from __future__ import annotations

from typing import Any

from dpoframe import EvaluatorSpec


class SpecOf:
    """The spec of a class, and of an instance the one that its method `own` makes of it."""

    def __init__(self, plain: EvaluatorSpec) -> None:
        self.plain = plain

    def __get__(self, one: Any, kind: type | None = None) -> EvaluatorSpec:
        """The class's own where there is no instance."""
        found: EvaluatorSpec = self.plain if one is None else one.own(self.plain)
        return found
