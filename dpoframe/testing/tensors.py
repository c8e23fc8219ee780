"""Tensors of the contracts: finding them in a batch, and a plain loss with its hint."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dpoframe import PairScores


class _Finder(pickle.Pickler):
    """Walks a value as pickling does, and notes the tensors instead of writing them."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO())
        self.found: list[Tensor] = []

    def persistent_id(self, value: Any) -> str | None:
        """Keeps a tensor and stands in for it."""
        if isinstance(value, Tensor):
            self.found.append(value)
            return "tensor"
        return None


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor in a value, however deep it lies in whatever object."""
    finder = _Finder()
    finder.dump(value)
    return finder.found


def pair_loss(values: Tensor, beta: float = 0.1) -> Tensor:
    """Mean of -log sigmoid(beta (chosen - rejected)) over pairs; `values` (2B,), chosen first, against a reference of 0."""
    chosen, rejected = values.chunk(2)
    return -torch.nn.functional.logsigmoid(beta * (chosen - rejected)).mean()


def pair_hint(pairs: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The hint that belongs to `pair_loss` over `pairs` pairs."""

    def hint(values: Tensor, index: Tensor) -> Tensor:
        full = torch.zeros(2 * pairs, dtype=values.dtype, device=values.device)
        full[index] = values.detach()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(pair_loss(full.requires_grad_()), full)
        return gradient[index]

    return hint


def pair_scores(
    pairs: int = 6,
    seed: int = 0,
    spread: float = 3.0,
    details: frozenset[str] = frozenset(),
    vectors: frozenset[str] = frozenset(),
) -> PairScores:
    """Plausible scores of `pairs` pairs in float64: log-probabilities of 4 to 20 tokens, and every detail a loss may ask for.

    Those of `details` that are in `vectors` are (B, 5).
    """
    draw = torch.Generator().manual_seed(seed)

    def noise(size: float, *width: int) -> Tensor:
        return torch.randn(pairs, *width, generator=draw, dtype=torch.float64) * size

    lengths = torch.randint(4, 21, (2, pairs), generator=draw).double()
    reference = [-2.0 * lengths[0] + noise(1.0), -2.0 * lengths[1] + noise(1.0)]
    policy = [(part + noise(spread)).clamp(max=-0.5) for part in reference]
    sides = [f"{who}_{side}" for who in ("policy", "reference") for side in ("chosen", "rejected")]
    extra = {f"{side}/{name}": -noise(1.0).abs() for name in sorted(details - vectors) for side in sides}
    extra |= {f"{side}/{name}": noise(1.0, 5) for name in sorted(vectors) for side in sides}
    extra |= {"policy_mismatched": reference[0] - 5 + noise(spread), "reference_mismatched": reference[0] - 5}
    extra["step/chosen_length"] = lengths[0].mean()
    return PairScores(policy[0], policy[1], reference[0], reference[1], lengths[0], lengths[1], extra)
