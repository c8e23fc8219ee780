"""What evaluators of pictures share: weights that are looked for before anything runs, and named in the spec."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpoframe import Available, Evaluator, EvaluatorSpec, Refused
from dpoframe_diffusion.evaluators.weights import Weights, assets, refusal

_NOT_IN_IDS = re.compile(r"[^\w.:>+-]+")

LIMIT = 1800.0
"""Seconds that one call may take: the first one loads the weights, some of which are 4 GB on a slow disk."""


class SpecOf:
    """The spec of a class, and of an instance the one that follows from its fields: numbers of other weights do not compare."""

    def __init__(self, plain: EvaluatorSpec) -> None:
        self.plain = plain

    def __get__(self, one: Any, kind: type | None = None) -> EvaluatorSpec:
        """The class's own where there is no instance."""
        found: EvaluatorSpec = self.plain if one is None else one.own(self.plain)
        return found


@dataclass(frozen=True)
class PictureEvaluator(Evaluator):
    """An evaluator whose id names its weights. Its class attribute `spec` is a `SpecOf`."""

    @abstractmethod
    def wanted(self) -> Sequence[Weights]:
        """What it loads."""

    @abstractmethod
    def name(self) -> str:
        """The metric's id. What a gate file would have to quote becomes a dash."""

    def own(self, plain: EvaluatorSpec) -> EvaluatorSpec:
        """The class's spec under the instance's id, with those assets that are there."""
        return replace(plain, id=_NOT_IN_IDS.sub("-", self.name()).strip("-:"), assets=assets(self.wanted()))

    def probe(self) -> Available | Refused:
        """Whether the weights are on this machine; nothing is loaded, and nothing downloaded."""
        return refusal(self.wanted()) or self.suited()

    def suited(self) -> Available | Refused:
        """Whether the weights, which are there, are of the kind that is needed."""
        return Available()
