"""Stands for VAE and text encoders where nothing is trained: encodings of the right shapes, and no content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from dpoframe_diffusion.latents import Framed
    from dpoframe_diffusion.loading import Location


@dataclass(frozen=True)
class BlankEncodings:
    """What `Encodings` gives, in shape: read off the configs of the pipeline `location`, without one of its weights."""

    location: Location

    def moments(self, pictures: Sequence[Framed]) -> list[tuple[Tensor, Tensor]]:
        """Zeros (C, h, w) and (C, h, w) a picture."""
        import torch

        vae = self.location.settings("vae")
        step, channels = self.location.family.downscale(vae), int(vae.get("latent_channels", 4))
        shapes = [(channels, frame.height // step, frame.width // step) for _, frame in pictures]
        return [(torch.zeros(shape), torch.zeros(shape)) for shape in shapes]

    def conditions(self, prompts: Sequence[str]) -> list[dict[str, Tensor]]:
        """Zeros for each of the family's conditions."""
        import torch

        family = self.location.family
        shapes = family.condition_shapes(self.location.settings(family.denoiser), self.location.tokens)
        return [{name: torch.zeros(shape) for name, shape in shapes.items()} for _ in prompts]
