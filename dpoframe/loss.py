"""The contract of a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dpoframe.types import PairScores

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Loss(ABC):
    """A pure function of `PairScores`. Subclass as a frozen dataclass: its fields are its recipe keys.

    Class attributes:
        requires: details the modality must provide (`shared`, `wpo`, ...), see `Modality.provides`.
        uses_reference: False where the reference's scores are not read; the reference kind may then be `none`.
        couples_pairs: True where one pair's loss depends on the scores of others in the step. The trainer then
            computes the loss over the whole optimizer step and all ranks, however the step is split in micro-batches.
        mismatched: True where the loss reads `policy_mismatched` and `reference_mismatched` from the detail: (B,)
            scores of each prompt with another prompt's chosen response (KTO's estimate of the divergence).
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    uses_reference: ClassVar[bool] = True
    couples_pairs: ClassVar[bool] = False
    mismatched: ClassVar[bool] = False
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    @abstractmethod
    def __call__(self, scores: PairScores) -> Tensor:
        """The loss of each pair, (B,). The step's loss is its mean over pairs, times the pairs' weights."""

    def update(self, state: Mapping[str, Tensor], scores: PairScores) -> Mapping[str, Tensor]:
        """What to remember after an optimizer step, given what was remembered and the whole step's scores.

        The trainer keeps it, saves it with the checkpoint, and hands it back as `scores.detail["state/<name>"]`.
        """
        return {}

    @property
    def reward_scale(self) -> float:
        """Factor from log-ratio to reward in the logged metrics: beta where the loss has one."""
        return float(getattr(self, "beta", 1.0))
