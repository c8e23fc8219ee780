"""A pipeline of Stable Diffusion's parts, small: autoencoder, text encoder, UNet with cross attention, DDIM. Untrained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from dpoframe_diffusion.example.base_settings import Sizes
from dpoframe_diffusion.example.digits import SIDE
from dpoframe_diffusion.example.vocabulary import LENGTH, tokenizer_for

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

WIDTH = 64
"""Width of the prompt's embedding."""

LATENT = (4, 8, 8)
"""Channels, height and width of a picture's latent."""


def untrained(captions: Sequence[str], sizes: Sizes) -> StableDiffusionPipeline:
    """The pipeline with weights drawn from torch's global generator.

    Args:
        captions: What the tokenizer is made from.
        sizes: Widths of the networks.
    """
    from diffusers import StableDiffusionPipeline

    tokenizer = tokenizer_for(captions)
    return StableDiffusionPipeline(
        vae=_autoencoder(sizes.autoencoder),
        text_encoder=_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=_denoiser(sizes.denoiser),
        scheduler=_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _autoencoder(channels: tuple[int, ...]) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=LATENT[0],
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=SIDE,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def _text_encoder(tokenizer: Any) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    made: Any = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    # CLIP begins with words that hardly differ, and learns them from millions of captions. Here they must differ at once.
    torch.nn.init.normal_(made.get_input_embeddings().weight)
    return made


def _denoiser(channels: tuple[int, ...]) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=LATENT[1],
        in_channels=LATENT[0],
        out_channels=LATENT[0],
        # Attention where the latent is smallest: at its full size it would cost as much as all the rest.
        down_block_types=(*("DownBlock2D",) * (len(channels) - 1), "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", *("UpBlock2D",) * (len(channels) - 1)),
        block_out_channels=channels,
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def _scheduler() -> Any:
    """Stable Diffusion's own noise schedule."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
