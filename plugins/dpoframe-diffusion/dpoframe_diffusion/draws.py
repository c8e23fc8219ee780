"""What is drawn for an example: a time, noise, and a place in the VAE's posterior. All of it follows from its seed alone.

The two examples of a pair share the seed, and policy and reference the batch, so all four see the same draws: the rule of
Diffusion-DPO (Wallace et al. 2023, arXiv 2311.12908).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from dpoframe import generator, seed_of

if TYPE_CHECKING:
    from dpoframe_diffusion.process import Process
    from dpoframe_diffusion.timesteps import TimestepSection


class Draw(NamedTuple):
    """What one example gets.

    Attributes:
        time: 0-dim, in the units of the process.
        noise: float32, of the latent's shape; what is mixed into the latent.
        posterior: The same for the sample of the VAE's posterior.
    """

    time: Tensor
    noise: Tensor
    posterior: Tensor


def draw(seed: int, shape: torch.Size, process: Process, section: TimestepSection) -> Draw:
    """Draws for an example with a latent of `shape` (C, h, w). Each of the three has a generator of its own.

    So the time of an example does not hang on the size of its latent, nor its noise on how the time is drawn.
    """

    def normal(what: str) -> Tensor:
        # Named, since some precisions set the default type, and a draw of another type is another draw.
        return torch.randn(shape, generator=generator(seed_of(seed, what)), dtype=torch.float32)

    return Draw(process.draw(generator(seed_of(seed, "time")), section), normal("noise"), normal("posterior"))
