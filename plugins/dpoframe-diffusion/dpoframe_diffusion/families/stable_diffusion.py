"""Stable Diffusion 1.x and 2.x: a UNet that sees one text encoder's states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from dpoframe_diffusion.families.base import Family

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dpoframe_diffusion.process import Process


class StableDiffusion(Family):
    """Stable Diffusion 1.x and 2.x (Rombach et al. 2021, arXiv 2112.10752), epsilon and v prediction."""

    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionPipeline",)
    denoiser: ClassVar[str] = "unet"
    text_parts: ClassVar[tuple[str, ...]] = ("text_encoder", "tokenizer")

    def process(self, scheduler: Mapping[str, Any]) -> Process:
        """Diffusion in discrete steps."""
        from dpoframe_diffusion.process import Ddpm

        return Ddpm.from_scheduler(scheduler)

    def encode_prompts(self, pipeline: Any, prompts: Sequence[str]) -> dict[str, Tensor]:
        """`prompt_embeds` (n, tokens, width)."""
        device = pipeline.text_encoder.device
        states, _ = pipeline.encode_prompt(list(prompts), device, 1, do_classifier_free_guidance=False)
        return {"prompt_embeds": states}

    def predict(self, denoiser: nn.Module, noisy: Tensor, time: Tensor, conditions: Mapping[str, Tensor], sizes: Tensor) -> Tensor:
        """(n, C, h, w); `sizes` is not looked at."""
        found: Tensor = denoiser(noisy, time, encoder_hidden_states=conditions["prompt_embeds"], return_dict=False)[0]
        return found

    def faults(self, denoiser: Mapping[str, Any], vae: Mapping[str, Any]) -> list[str]:
        """What in the parts' configs keeps the pipeline from being trained: here a UNet that wants more than a prompt."""
        found = super().faults(denoiser, vae)
        for name in ("addition_embed_type", "class_embed_type"):
            if kind := denoiser.get(name):
                found.append(f"Its unet has {name} {kind}, which this kind of pipeline does not give it: it is of another model.")
        return found
