"""The contract of a generation backend, and the one that needs nothing: the modality's own `generate`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dpoframe.config.secrets import masked
from dpoframe.evaluator import Available, Refused
from dpoframe.types import Request, Sample

if TYPE_CHECKING:
    from dpoframe.harness.subject import Subject
    from dpoframe.modality import Modality


@dataclass(frozen=True)
class Backend(ABC):
    """Writes answers. Its fields are its keys in a suite's `backend` section; none of them is a secret.

    Class attributes:
        kind: The word by which a suite names it.
    """

    kind: ClassVar[str]
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def probe(self) -> Available | Refused:
        """Whether it can run here; cheap, and before any weights are loaded."""
        return Available()

    def draws(self, modality: Modality, settings: Mapping[str, Any]) -> bool:
        """Whether answers with these generation settings are drawn at random; asked before any weights are read.

        Raises:
            ConfigError: a setting is wrong, or has no counterpart here.
        """
        return True

    @abstractmethod
    def answers(self, subject: Subject, requests: Sequence[Request]) -> Iterator[Sample]:
        """One sample a request, in any order, each as soon as it is there."""

    @abstractmethod
    def digest(self, subject: Subject) -> str:
        """Digest of what writes the answers: the part of a stored sample's key that tells one writer from another."""

    def described(self) -> dict[str, Any]:
        """The backend with all its settings as plain values, for manifests."""
        return {"kind": self.kind, **masked(asdict(self))}


@dataclass(frozen=True)
class Native(Backend):
    """The modality's own `generate` on the weights in memory: transformers, for text."""

    kind: ClassVar[str] = "modality"

    def draws(self, modality: Modality, settings: Mapping[str, Any]) -> bool:
        """What the modality says."""
        return modality.check_generation(settings)

    def answers(self, subject: Subject, requests: Sequence[Request]) -> Iterator[Sample]:
        """What the subject answers."""
        return subject.answers(requests)

    def digest(self, subject: Subject) -> str:
        """The subject's digest: weights, tokenizer, template, versions."""
        return subject.digest
