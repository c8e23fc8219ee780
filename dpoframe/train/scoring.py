"""Scores micro-batches by policy and reference, and finds what a loss that couples pairs needs to know first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dpoframe.data.batching import PairBatch, StepBatch
from dpoframe.loss import Loss
from dpoframe.modality import GradientHint, Modality
from dpoframe.train import step as arithmetic
from dpoframe.train.randomness import RandomState
from dpoframe.train.reference import Reference
from dpoframe.train.sharding.root import score
from dpoframe.train.step import Columns
from dpoframe.types import PairScores, Scores

Detail = Mapping[str, Tensor]


@dataclass(frozen=True)
class FixedScores:
    """What no gradient flows through: the reference's scores of a micro-batch, and both models' mismatched scores."""

    reference: Scores | None
    mismatched: dict[str, Tensor]


@dataclass(frozen=True)
class LookAhead:
    """What a first pass over the step found, one entry a micro-batch: derivatives by the scores, losses, fixed scores."""

    gradients: list[Columns]
    losses: list[Tensor]
    fixed: list[FixedScores]


@dataclass(frozen=True)
class PairScorer:
    """Turns micro-batches into `PairScores`.

    Attributes:
        modality: Scores both models.
        policy: The model that is trained.
        reference: Gives the reference's scores.
        loss: The loss of each pair.
        terms: Whether plugins add terms to the loss, which no hint knows of.
    """

    modality: Modality
    policy: nn.Module
    reference: Reference
    loss: Loss
    terms: bool = False

    @property
    def hinted(self) -> bool:
        """Whether the loss's derivative follows from the scores' values alone, so that a hint of it can be right."""
        return not self.loss.requires and not self.terms

    @property
    def device(self) -> torch.device:
        """Where the policy is."""
        return next(self.policy.parameters()).device

    @property
    def models(self) -> list[nn.Module]:
        """The models that score: the policy and, where it is another one, the reference's."""
        other = getattr(self.reference, "model", None)
        return [self.policy, other] if isinstance(other, nn.Module) and other is not self.policy else [self.policy]

    def facts(self, batch: StepBatch, state: Detail) -> dict[str, Tensor]:
        """Facts of the whole step and the loss's state, by the names that losses read."""
        length = torch.tensor(batch.chosen_length, device=self.device)
        return {"step/chosen_length": length} | {f"state/{name}": value for name, value in state.items()}

    @torch.no_grad()
    def fixed(self, pairs: PairBatch) -> FixedScores:
        """The reference's scores, and mismatched scores where the loss reads them. Draws no randomness."""
        reference = self.reference.score(self.modality, self.policy, pairs.inputs, pairs.keys)
        if pairs.mismatched is None:
            return FixedScores(reference, {})
        with RandomState.kept(self.device):
            policy = score(self.modality, self.policy, pairs.mismatched)
            other = self.reference.score(self.modality, self.policy, pairs.mismatched, pairs.mismatched_keys)
        value = other.value if other else torch.zeros_like(policy.value)
        return FixedScores(reference, {"policy_mismatched": policy.value, "reference_mismatched": value})

    def score(self, pairs: PairBatch, fixed: FixedScores, facts: Detail, hint: GradientHint | None = None) -> PairScores:
        """(b,) scores of policy and reference; the policy's carry their graph where gradients are on."""
        if not self.hinted:
            hint = None
        elif hint is None and torch.is_grad_enabled() and not self.loss.couples_pairs:
            hint = arithmetic.hint_from_loss(self.loss, pairs, fixed.reference, facts)
        policy = score(self.modality, self.policy, pairs.inputs, hint)
        reference = fixed.reference or Scores(torch.zeros_like(policy.value).detach(), policy.length)
        return PairScores.from_scores(policy, reference, {**facts, **fixed.mismatched})

    def look_ahead(
        self, batch: StepBatch, facts: Detail, strategy: Any, exchange: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> LookAhead | None:
        """A first pass without gradients, for a loss that couples pairs: its derivative by each score of the step.

        None where no such pass is needed: the loss takes pairs one by one, or the whole step is one micro-batch.

        Args:
            batch: This rank's share of the step.
            facts: Of the whole step.
            strategy: Lightning's.
            exchange: Makes the context in which ranks tell each other their scores.
        """
        if not self.loss.couples_pairs or (len(batch.micro) == 1 and strategy.world_size == 1):
            return None
        with RandomState.kept(self.device), torch.no_grad():  # the second pass draws the same dropout
            fixed = [self.fixed(pairs) for pairs in batch.micro]
            first = [self.score(pairs, known, facts) for pairs, known in zip(batch.micro, fixed, strict=True)]
        mine = [
            arithmetic.to_columns(scores, pairs, torch.zeros_like(scores.policy_chosen), {})
            for scores, pairs in zip(first, batch.own, strict=False)
        ]
        with exchange():
            columns = arithmetic.gather(arithmetic.join(mine), batch.pairs, strategy)
        scores = arithmetic.to_scores(columns, facts)
        gradients, losses = arithmetic.score_gradients(self.loss, scores, columns[arithmetic.WEIGHT])
        own = arithmetic.own_parts({**gradients, arithmetic.LOSS: losses}, batch, strategy)
        return LookAhead(own, [part.pop(arithmetic.LOSS) for part in own], fixed)
