"""Stable Diffusion XL: a UNet that sees two text encoders' states, a pooled one, and the picture's size and crop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from dpoframe_diffusion.families.base import Family
from dpoframe_diffusion.families.stable_diffusion import StableDiffusion

if TYPE_CHECKING:
    from torch import Tensor, nn


class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL (Podell et al. 2023, arXiv 2307.01952), epsilon and v prediction."""

    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionXLPipeline",)
    text_parts: ClassVar[tuple[str, ...]] = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    conditions: ClassVar[tuple[str, ...]] = ("prompt_embeds", "pooled_prompt_embeds")

    def encode_prompts(self, pipeline: Any, prompts: Sequence[str]) -> dict[str, Tensor]:
        """`prompt_embeds` (n, tokens, both widths) and `pooled_prompt_embeds` (n, width of the second)."""
        device = pipeline.text_encoder_2.device
        states, _, pooled, _ = pipeline.encode_prompt(list(prompts), device=device, do_classifier_free_guidance=False)
        return {"prompt_embeds": states, "pooled_prompt_embeds": pooled}

    def pooled_width(self, denoiser: Mapping[str, Any]) -> int:
        """What the projection takes beside the features of the six sizes."""
        return int(denoiser["projection_class_embeddings_input_dim"]) - 6 * int(denoiser["addition_time_embed_dim"])

    def predict(self, denoiser: nn.Module, noisy: Tensor, time: Tensor, conditions: Mapping[str, Tensor], sizes: Tensor) -> Tensor:
        """(n, C, h, w), knowing size and crop of each picture."""
        # Sizes stay whole numbers: in bfloat16 those over 256 would be rounded before the UNet makes features of them.
        added = {"text_embeds": conditions["pooled_prompt_embeds"], "time_ids": sizes}
        states = conditions["prompt_embeds"]
        found: Tensor = denoiser(noisy, time, encoder_hidden_states=states, added_cond_kwargs=added, return_dict=False)[0]
        return found

    def faults(self, denoiser: Mapping[str, Any], vae: Mapping[str, Any]) -> list[str]:
        """What in the parts' configs keeps the pipeline from being trained."""
        found, added = Family.faults(self, denoiser, vae), denoiser.get("addition_embed_type")
        if added != "text_time":
            found.append(f"Its unet has addition_embed_type {added}; SDXL's is text_time.")
        return found
