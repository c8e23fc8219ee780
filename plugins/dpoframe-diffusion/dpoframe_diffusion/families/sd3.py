"""Stable Diffusion 3 and 3.5: a transformer that sees the states of two CLIP encoders and of T5, and a pooled one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from dpoframe_diffusion.families.flow_matching import FlowMatching

if TYPE_CHECKING:
    from torch import Tensor, nn

_STEPS = 1000
"""The transformer counts time in thousandths."""


class StableDiffusion3(FlowMatching):
    """Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv 2403.03206), also without its third text encoder, T5."""

    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusion3Pipeline",)
    text_parts: ClassVar[tuple[str, ...]] = (
        "text_encoder",
        "tokenizer",
        "text_encoder_2",
        "tokenizer_2",
        "text_encoder_3",
        "tokenizer_3",
    )
    # The pipeline's own length when it draws.
    reads: ClassVar[Mapping[str, int]] = MappingProxyType({"tokenizer_3": 256})

    def encode_prompts(self, pipeline: Any, prompts: Sequence[str]) -> dict[str, Tensor]:
        """`prompt_embeds` (n, tokens, width of T5) and `pooled_prompt_embeds` (n, width of both CLIP encoders together).

        T5 sees 256 tokens, the pipeline's own length when it draws.
        """
        given, device = list(prompts), pipeline.text_encoder.device
        with _with_width(pipeline):
            states, _, pooled, _ = pipeline.encode_prompt(given, given, given, device=device, do_classifier_free_guidance=False)
        return {"prompt_embeds": states, "pooled_prompt_embeds": pooled}

    def condition_shapes(self, denoiser: Mapping[str, Any], tokens: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """The states of the CLIP encoders, and after them those of T5, or as many zeros where there is no T5."""
        found = super().condition_shapes(denoiser, tokens)
        clip, width = found["prompt_embeds"]
        return {**found, "prompt_embeds": (clip + self.reads["tokenizer_3"], width)}

    def predict(self, denoiser: nn.Module, noisy: Tensor, time: Tensor, conditions: Mapping[str, Tensor], sizes: Tensor) -> Tensor:
        """(n, C, h, w); `sizes` is not looked at."""
        found: Tensor = denoiser(
            hidden_states=noisy,
            timestep=time * _STEPS,
            encoder_hidden_states=conditions["prompt_embeds"],
            pooled_projections=conditions["pooled_prompt_embeds"],
            return_dict=False,
        )[0]
        return found

    def largest(self, denoiser: Mapping[str, Any], vae: Mapping[str, Any]) -> int | None:
        """As far as the table of positions goes."""
        table, patch = denoiser.get("pos_embed_max_size"), denoiser.get("patch_size")
        return table * patch * self.downscale(vae) if table and patch else None


@contextmanager
def _with_width(pipeline: Any) -> Iterator[None]:
    """Context in which a pipeline without T5 knows the width of the zeros that stand for it, also without its transformer."""
    if pipeline.text_encoder_3 is not None or pipeline.transformer is not None:
        yield
        return
    file = Path(pipeline.name_or_path) / "transformer" / "config.json"
    config = SimpleNamespace(**json.loads(file.read_text(encoding="utf-8")))
    # Not through the pipeline's own setter, which would register the stand-in as a part.
    object.__setattr__(pipeline, "transformer", SimpleNamespace(config=config))
    try:
        yield
    finally:
        object.__setattr__(pipeline, "transformer", None)
