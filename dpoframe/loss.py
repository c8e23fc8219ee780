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

    The facts `requires`, `vectors`, `uses_reference`, `couples_pairs` and `mismatched` are read from the instance. A
    subclass sets one with a plain class attribute (`couples_pairs = True`), or overrides the property where it
    depends on the fields.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    @property
    def requires(self) -> frozenset[str]:
        """Details the modality must provide (`shared`, `wpo`, ...), see `Modality.provides`."""
        return frozenset()

    @property
    def vectors(self) -> frozenset[str]:
        """Those of `requires` that are vectors, (B, D), such as an image's `residual`.

        They live inside a micro-batch: they are neither gathered over ranks nor kept in a cache. So such a loss takes no cached
        reference, and does not couple pairs.
        """
        return frozenset()

    @property
    def uses_reference(self) -> bool:
        """False where the reference's scores are not read; the reference kind may then be `none`."""
        return True

    @property
    def couples_pairs(self) -> bool:
        """True where one pair's loss depends on the scores of others in the step.

        The trainer then computes the loss over the whole optimizer step and all ranks, however the step is split in
        micro-batches.
        """
        return False

    @property
    def mismatched(self) -> bool:
        """True where the loss reads `policy_mismatched` and `reference_mismatched` from the detail.

        They are (B,) scores of each prompt with another prompt's chosen response (KTO's estimate of the divergence).
        """
        return False

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

    def rewards(self, scores: PairScores) -> tuple[Tensor, Tensor]:
        """(B,) implicit rewards of the chosen and of the rejected responses, for metrics.

        The default is `reward_scale` times the log-ratios, or times the policy's scores where no reference is used.
        Override it where the loss compares something else (a mean a token).
        """
        chosen, rejected = scores.policy_chosen, scores.policy_rejected
        if self.uses_reference:
            chosen, rejected = scores.chosen_logratio, scores.rejected_logratio
        return self.reward_scale * chosen, self.reward_scale * rejected
