"""A batch of noisy latents: groups of equal size, and every prompt once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Noised(NamedTuple):
    """One example as the denoiser meets it.

    Attributes:
        prompt: The caption, which finds its encoding in the batch.
        noisy: (C, h, w) what the denoiser is shown.
        target: (C, h, w) what it should predict.
        time: 0-dim, in the units of the process.
        sizes: Height and width of the picture, top and left of the crop, height and width of the crop.
        weight: (1, h, w) of mean 1, how much each place counts; None where all count alike.
    """

    prompt: str
    noisy: Tensor
    target: Tensor
    time: Tensor
    sizes: tuple[int, ...]
    weight: Tensor | None = None


# No frozen dataclasses: Lightning walks through a batch to move it, and refuses those.
@dataclass
class Group:
    """The n examples of a batch whose latents have one size.

    Attributes:
        place: (n,) places in the batch.
        noisy: (n, C, h, w) float32.
        target: (n, C, h, w) float32.
        time: (n,).
        sizes: (n, 6) int64.
        prompt: (n,) rows in the batch's prompts.
        weight: (n, 1, h, w), or None where every place of every example counts alike.
    """

    place: Tensor
    noisy: Tensor
    target: Tensor
    time: Tensor
    sizes: Tensor
    prompt: Tensor
    weight: Tensor | None = None


@dataclass
class ImageBatch:
    """N examples.

    Attributes:
        groups: One for each size of latents.
        prompts: The encodings of the P different prompts, (P, ...) each, by name.
    """

    groups: list[Group]
    prompts: dict[str, Tensor]


def gather(examples: Sequence[Noised], encodings: Mapping[str, Mapping[str, Tensor]]) -> ImageBatch:
    """One batch of examples, in their order within each size.

    Args:
        examples: In the order in which scores come back.
        encodings: For each of their prompts the tensors that the denoiser takes.
    """
    prompts = {prompt: row for row, prompt in enumerate(dict.fromkeys(example.prompt for example in examples))}
    names = encodings[next(iter(prompts))] if prompts else ()
    by_size: dict[torch.Size, list[int]] = {}
    for place, example in enumerate(examples):
        by_size.setdefault(example.noisy.shape, []).append(place)
    stacked = {name: torch.stack([encodings[prompt][name] for prompt in prompts]) for name in names}
    return ImageBatch([_group([examples[place] for place in places], places, prompts) for places in by_size.values()], stacked)


def _group(members: Sequence[Noised], places: Sequence[int], rows: Mapping[str, int]) -> Group:
    weight = None
    if any(member.weight is not None for member in members):
        even = members[0].noisy.new_ones(1, *members[0].noisy.shape[-2:])
        weight = torch.stack([even if member.weight is None else member.weight for member in members])
    return Group(
        place=torch.tensor(places),
        noisy=torch.stack([member.noisy for member in members]),
        target=torch.stack([member.target for member in members]),
        time=torch.stack([member.time for member in members]),
        sizes=torch.tensor([member.sizes for member in members]),
        prompt=torch.tensor([rows[member.prompt] for member in members]),
        weight=weight,
    )
