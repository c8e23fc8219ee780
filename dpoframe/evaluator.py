"""The contract of an evaluator: one measurement of a model's outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from dpoframe.types import Sample

Need: TypeAlias = Literal["response", "pair", "base_logp"]


@dataclass(frozen=True)
class Available:
    """The evaluator can run here."""


@dataclass(frozen=True)
class Refused:
    """The evaluator cannot run here: why, and the command or step that mends it."""

    reason: str
    fix: str


@dataclass(frozen=True)
class Scale:
    """What a metric's numbers mean: bounds (None where open), unit, and which way is better (None where neither)."""

    low: float | None = None
    high: float | None = None
    unit: str = ""
    better: Literal["higher", "lower"] | None = "higher"


@dataclass(frozen=True)
class Asset:
    """A file or model that an evaluator relies on: name, digest of its bytes, licence."""

    name: str
    digest: str
    licence: str


@dataclass(frozen=True)
class EvaluatorSpec:
    """Who an evaluator is.

    Attributes:
        id: The metric's id; it changes whenever numbers of the old and the new would not compare.
        version: Version of the evaluator's code.
        needs: What a sample must carry. `response`: a generated answer. `pair`: `detail` holds `margin`
            (log-ratio of chosen minus rejected, in nats, against the base model), `policy_margin` (the same without
            the base), `chosen_length`, `rejected_length`. `base_logp`: `detail` holds `base_logp`, the summed
            log-probability of the response under the base model, and `base_length`, the units it sums over.
        metrics: Scale of each metric that `score` returns.
        primary: The metric to read first.
        assets: Files and models it relies on.
    """

    id: str
    version: str
    needs: Need
    metrics: Mapping[str, Scale]
    primary: str
    assets: tuple[Asset, ...] = ()


@dataclass(frozen=True)
class Evaluator(ABC):
    """One measurement. Subclass as a frozen dataclass: its fields are its keys in a suite.

    `None` from `score` means unscored: the sample is counted and shown as such, never as 0.
    """

    spec: ClassVar[EvaluatorSpec]
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def probe(self) -> Available | Refused:
        """Whether the evaluator can run on this machine. Cheap; called before any sample is made."""
        return Available()

    @abstractmethod
    def score(self, sample: Sample) -> Mapping[str, float] | None:
        """The metrics of one sample by name, or None where it cannot be scored."""
