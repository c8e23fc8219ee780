"""A validation: pairs scored batch by batch, and one row of figures over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dpoframe.data.batching import StepBatch
from dpoframe.train import step as arithmetic
from dpoframe.train.hooks import RunHooks
from dpoframe.train.rows import metric_row, set_aside
from dpoframe.train.scoring import PairScorer
from dpoframe.train.step import LOSS, Columns

STAGE = "validation"


class Validation:
    """Collects the columns of a validation's batches.

    Args:
        scorer: Scores, and has the loss.
        hooks: The plugins' part in the run.
    """

    def __init__(self, scorer: PairScorer, hooks: RunHooks) -> None:
        self.scorer, self.hooks, self.loss = scorer, hooks, scorer.loss
        self.parts: list[Columns] = []

    def take(self, batch: StepBatch, step: int, state: Mapping[str, Tensor], strategy: Any) -> None:
        """Scores a batch. A loss that couples pairs is taken over `batch_size` at a time, as in training.

        Args:
            batch: This rank's share.
            step: Optimizer steps done.
            state: What the loss remembers.
            strategy: Lightning's.
        """
        facts, coupled = self.scorer.facts(batch, state), self.loss.couples_pairs
        parts = []
        for pairs in batch.own:
            scores = self.scorer.score(pairs, self.scorer.fixed(pairs), facts)
            terms = self.hooks.loss_terms(scores, STAGE, step)
            parts.append(arithmetic.to_columns(scores, pairs, scores.policy_chosen if coupled else self.loss(scores), terms))
        for pairs in batch.micro[len(batch.own) :]:  # other ranks have one more
            self.scorer.score(pairs, self.scorer.fixed(pairs), facts)
        mine = arithmetic.join(parts) if parts else arithmetic.no_pairs(self.parts, self.scorer.device)
        columns = arithmetic.gather(mine, batch.pairs, strategy)
        self.parts.append(columns | ({LOSS: self.loss(arithmetic.to_scores(columns, facts))} if coupled else {}))

    def conclude(self, step: int, state: Mapping[str, Tensor], progress: Mapping[str, float]) -> dict[str, Any]:
        """The row, over all pairs at once; the next validation starts anew."""
        columns, self.parts = arithmetic.join(self.parts), []
        scores = arithmetic.to_scores(columns, {f"state/{name}": value for name, value in state.items()})
        row = metric_row(self.loss, self.hooks, STAGE, step, columns, scores, {})
        set_aside(row)
        return row | {"stage": STAGE, **progress}


def take_first_statistics(policy: nn.Module, strategy: Any) -> None:
    """Gives all ranks the buffers of the first one's policy, such as a batch norm's running statistics.

    Each rank's follow from the pairs that it saw. A checkpoint and the aligned model hold the first one's, so these are validated.
    """
    kept = policy.state_dict(keep_vars=True) if strategy.world_size > 1 else {}
    for name, value in policy.named_buffers():
        if name in kept and value.dtype != torch.bool:
            torch.distributed.broadcast(value, 0)
