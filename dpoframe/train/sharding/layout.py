"""How the models of a run lie on the ranks: whole on each, or in parts that are put together when the policy is written."""

from __future__ import annotations

from typing import Any

from torch import nn

from dpoframe.train.scoring import PairScorer
from dpoframe.train.sharding.outline import Outline
from dpoframe.train.sharding.splitting import split


class Layout:
    """Nothing is done under strategies that keep models whole.

    Args:
        scorer: Has the models.
    """

    def __init__(self, scorer: PairScorer) -> None:
        self.scorer = scorer
        self._outline: Outline | None = None
        self._whole: nn.Module | None = None

    def split(self, strategy: Any) -> None:
        """Splits policy and reference; called on all ranks, before there is an optimizer."""
        if not hasattr(strategy, "splits_model") or self._outline is not None:
            return
        self._outline = Outline(self.scorer.policy)
        for model in [] if hasattr(strategy, "splits_itself") else self.scorer.models:
            split(model, self.scorer.modality.blocks(model), strategy.mesh)

    def gather(self, trainer: Any) -> None:
        """Puts a split policy together on the first rank; called on all of them, when training has ended."""
        if self._outline is not None and trainer.strategy.splits_model:
            self._whole = self._outline.filled(self.scorer.policy, trainer.is_global_zero)

    def policy(self, strategy: Any) -> nn.Module:
        """The policy with all its values and tensors of its own: of a split one, on the first rank, once it was gathered."""
        if self._outline is not None and not strategy.splits_model:  # whole, but its parameters are views of one tensor
            self._whole = self._outline.filled(self.scorer.policy, keep=True)
        return self.scorer.policy if self._whole is None else self._whole
