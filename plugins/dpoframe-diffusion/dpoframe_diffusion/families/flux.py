"""Flux: a transformer on packed latents that sees T5's states, CLIP's pooled one, and in its distilled form a guidance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from dpoframe_diffusion.families.flow_matching import FlowMatching

if TYPE_CHECKING:
    from torch import Tensor, nn


class Flux(FlowMatching):
    """Flux.1 dev and schnell (Black Forest Labs, 2024).

    Class attributes:
        guidance: What dev, which had guidance distilled into it, is told of it in training: what its pipeline draws with.
            schnell is not told any.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("FluxPipeline",)
    text_parts: ClassVar[tuple[str, ...]] = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    # The pipeline's own length when it draws.
    reads: ClassVar[Mapping[str, int]] = MappingProxyType({"tokenizer_2": 512})
    guidance: ClassVar[float] = 3.5

    def encode_prompts(self, pipeline: Any, prompts: Sequence[str]) -> dict[str, Tensor]:
        """`prompt_embeds` (n, 512 tokens, width of T5) and `pooled_prompt_embeds` (n, width of CLIP)."""
        states, pooled, _ = pipeline.encode_prompt(list(prompts), device=pipeline.text_encoder_2.device)
        return {"prompt_embeds": states, "pooled_prompt_embeds": pooled}

    def condition_shapes(self, denoiser: Mapping[str, Any], tokens: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """T5's states; CLIP gives the pooled one alone."""
        found = super().condition_shapes(denoiser, tokens)
        return {**found, "prompt_embeds": (self.reads["tokenizer_2"], found["prompt_embeds"][1])}

    def predict(self, denoiser: nn.Module, noisy: Tensor, time: Tensor, conditions: Mapping[str, Tensor], sizes: Tensor) -> Tensor:
        """(n, C, h, w), h and w even; `sizes` is not looked at."""
        height, width = noisy.shape[-2:]
        states, config = conditions["prompt_embeds"], getattr(denoiser, "config", None)
        told = getattr(config, "guidance_embeds", False)
        found: Tensor = denoiser(
            hidden_states=packed(noisy),
            timestep=time,
            guidance=time.new_full(time.shape, self.guidance) if told else None,
            encoder_hidden_states=states,
            pooled_projections=conditions["pooled_prompt_embeds"],
            # Numbers of rows and columns stay float32: in bfloat16 those over 256 would be rounded.
            txt_ids=time.new_zeros(states.shape[1], 3),
            img_ids=positions(height // 2, width // 2, like=time),
            return_dict=False,
        )[0]
        return unpacked(found, height, width)

    def faults(self, denoiser: Mapping[str, Any], vae: Mapping[str, Any]) -> list[str]:
        """What in the parts' configs keeps the pipeline from being trained: here a channel of the VAE makes four."""
        channels = 4 * int(vae.get("latent_channels", 16))
        return super().faults(denoiser, {**vae, "latent_channels": channels})


def packed(latents: Tensor) -> Tensor:
    """(n, h/2 * w/2, 4 C) from (n, C, h, w): each square of two by two places is a token, row by row."""
    n, channels, height, width = latents.shape
    squares = latents.reshape(n, channels, height // 2, 2, width // 2, 2)
    return squares.permute(0, 2, 4, 1, 3, 5).reshape(n, height // 2 * (width // 2), 4 * channels)


def unpacked(tokens: Tensor, height: int, width: int) -> Tensor:
    """(n, C, height, width) from (n, height/2 * width/2, 4 C): what `packed` does, undone."""
    n, _, channels = tokens.shape
    squares = tokens.reshape(n, height // 2, width // 2, channels // 4, 2, 2)
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(n, channels // 4, height, width)


def positions(rows: int, columns: int, like: Tensor) -> Tensor:
    """(rows * columns, 3): 0, row and column of each token, of the type of `like` and where it is."""
    import torch

    places = like.new_zeros(rows, columns, 3)
    places[..., 1] = torch.arange(rows, device=like.device)[:, None]
    places[..., 2] = torch.arange(columns, device=like.device)
    return places.reshape(-1, 3)
