"""What the flow matching transformers have in common: the process, joint attention with the prompt, patches of two by two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from dpoframe_diffusion.families.base import Family

if TYPE_CHECKING:
    from dpoframe_diffusion.process import Process


class FlowMatching(Family):
    """A transformer that predicts the way from the picture to the noise (Esser et al. 2024, arXiv 2403.03206)."""

    denoiser: ClassVar[str] = "transformer"
    # The attention of the picture's tokens, and that of the prompt's, which take part in the same attention.
    lora_targets: ClassVar[tuple[str, ...]] = (
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
        "add_q_proj",
        "add_k_proj",
        "add_v_proj",
        "to_add_out",
    )
    conditions: ClassVar[tuple[str, ...]] = ("prompt_embeds", "pooled_prompt_embeds")
    patch: ClassVar[int] = 2

    def process(self, scheduler: Mapping[str, Any]) -> Process:
        """Rectified flow, with the scheduler's shift of times."""
        from dpoframe_diffusion.process import Flow

        return Flow.from_scheduler(scheduler)
