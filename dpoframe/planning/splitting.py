"""What a rank holds of a model that is split over ranks, besides its own part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

AHEAD = 2
"""Blocks that are there at once: the one that computes, and the next, which is gathered meanwhile."""


def size_of(parameters: Iterable[nn.Parameter]) -> int:
    """Bytes."""
    return sum(value.numel() * value.element_size() for value in parameters)


def gathered_bytes(model: nn.Module, blocks: Sequence[nn.Module]) -> int:
    """Bytes at the moment of a backward when they are most: gathered parameters, and whole gradients before they are shared out.

    Args:
        model: The policy.
        blocks: What `Modality.blocks` gives of it. What lies in none is there for the whole of a backward.
    """
    inside = {id(value) for block in blocks for value in block.parameters()}
    outer = [value for value in model.parameters() if id(value) not in inside]
    sizes = [(size_of(block.parameters()), size_of(_trained(block.parameters()))) for block in blocks]
    largest, trained = max(sizes, default=(0, 0))
    return size_of(outer) + size_of(_trained(outer)) + AHEAD * largest + trained


def _trained(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [value for value in parameters if value.requires_grad]
