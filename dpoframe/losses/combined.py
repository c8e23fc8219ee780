"""A weighted sum of several losses, as in MPO (arXiv 2411.10442)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpoframe.errors import ConfigError, Fault
from dpoframe.loss import Loss
from dpoframe.types import PairScores

if TYPE_CHECKING:
    from torch import Tensor


def _within(names: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in names.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class Combined(Loss):
    """sum_i weight_i * loss_i. It needs what any part needs; part i keeps its state under `<i>/<name>`.

    Attributes:
        parts: `(loss, weight)` in the recipe's order, weights above 0.
    """

    parts: tuple[tuple[Loss, float], ...]

    def __post_init__(self) -> None:
        found = [
            Fault(f"loss {number} ({type(loss).__name__})", f"its weight is {weight!r}: give a finite number above 0.")
            for number, (loss, weight) in enumerate(self.parts, start=1)
            if not (math.isfinite(weight) and weight > 0)
        ]
        if found or not self.parts:
            raise ConfigError("A sum of losses takes one or more (loss, weight):", found or [Fault("", "no loss was given.")])

    @property
    def requires(self) -> frozenset[str]:
        """The details that any part requires."""
        return frozenset().union(*(loss.requires for loss, _ in self.parts))

    @property
    def vectors(self) -> frozenset[str]:
        """The vectors that any part reads."""
        return frozenset().union(*(loss.vectors for loss, _ in self.parts))

    @property
    def uses_reference(self) -> bool:
        """Whether any part reads the reference."""
        return any(loss.uses_reference for loss, _ in self.parts)

    @property
    def couples_pairs(self) -> bool:
        """Whether any part couples pairs."""
        return any(loss.couples_pairs for loss, _ in self.parts)

    @property
    def mismatched(self) -> bool:
        """Whether any part reads mismatched scores."""
        return any(loss.mismatched for loss, _ in self.parts)

    def __call__(self, scores: PairScores) -> Tensor:
        """The weighted sum of each pair's losses, (B,)."""
        first, *rest = (weight * loss(part) for (loss, weight), part in zip(self.parts, self._views(scores), strict=True))
        return sum(rest, start=first)

    def _views(self, scores: PairScores) -> Iterator[PairScores]:
        """The scores as each part sees them: with its own state alone."""
        common = {name: tensor for name, tensor in scores.detail.items() if not name.startswith("state/")}
        for index in range(len(self.parts)):
            own = {f"state/{name}": tensor for name, tensor in _within(scores.detail, f"state/{index}/").items()}
            yield scores.replace(detail={**common, **own})

    def update(self, state: Mapping[str, Tensor], scores: PairScores) -> Mapping[str, Tensor]:
        """Every part's state under its number."""
        return {
            f"{index}/{name}": tensor
            for index, ((loss, _), part) in enumerate(zip(self.parts, self._views(scores), strict=True))
            for name, tensor in loss.update(_within(state, f"{index}/"), part).items()
        }

    @property
    def leading(self) -> Loss:
        """The part whose rewards are shown: the first that reads the reference, else the first."""
        return next((loss for loss, _ in self.parts if loss.uses_reference), self.parts[0][0])

    @property
    def reward_scale(self) -> float:
        """The leading part's."""
        return self.leading.reward_scale

    def rewards(self, scores: PairScores) -> tuple[Tensor, Tensor]:
        """The leading part's rewards, (B,) and (B,)."""
        return self.leading.rewards(scores)


def combine(parts: Sequence[tuple[Loss, float]]) -> Loss:
    """The weighted sum of losses; a single loss of weight 1 comes back as it is.

    Raises:
        ConfigError: a weight is not above 0, or the losses do not go together.
    """
    combined = Combined(tuple(parts))
    if combined.couples_pairs and combined.vectors:
        reads = ", ".join(sorted(combined.vectors))
        raise ConfigError(
            f"A loss that compares all pairs of a step goes with none that reads vectors ({reads}): those are at hand for "
            "one micro-batch at a time. Take one of the two."
        )
    return parts[0][0] if len(parts) == 1 and parts[0][1] == 1 else combined
