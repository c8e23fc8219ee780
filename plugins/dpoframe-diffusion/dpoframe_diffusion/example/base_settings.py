"""How the example's base is trained, as plain values: reading them loads no library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Sizes:
    """How wide the networks are.

    Attributes:
        autoencoder: Channels at each level, from the picture inwards; each level but the last halves the edge.
        denoiser: Channels at each level of the UNet.
    """

    autoencoder: tuple[int, ...] = (16, 32, 32)
    denoiser: tuple[int, ...] = (32, 64)


@dataclass(frozen=True)
class BaseSettings:
    """How the base is trained. Another value makes another base, kept beside this one.

    Attributes:
        seed: Weights, order of the pictures and noise follow from it.
        threads: Threads of torch. With two of them the same steps took 1.5 to 1.7 times the CPU time, so small are the layers;
            and sums depend on it in their last digits, so it is part of what makes the base.
        batch: Pictures a step.
        autoencoder_steps: Steps of the autoencoder.
        autoencoder_lr: Its highest learning rate.
        kl: Weight of the latents' divergence from a normal distribution.
        denoiser_steps: Steps of text encoder and UNet together.
        denoiser_lr: Their highest learning rate.
        unconditional: Share of pictures whose caption is left empty, for guidance.
        averaging: Share of the averaged weights that a step keeps; the base gets the averaged ones.
        sizes: Widths of the networks.
    """

    seed: int = 0
    threads: int = 1
    batch: int = 64
    autoencoder_steps: int = 150
    autoencoder_lr: float = 4e-3
    kl: float = 1e-3
    denoiser_steps: int = 700
    denoiser_lr: float = 2e-3
    unconditional: float = 0.1
    averaging: float = 0.99
    sizes: Sizes = field(default_factory=Sizes)
