"""What differs from one kind of pipeline to another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dpoframe_diffusion.process import Process


class Family(ABC):
    """One kind of pipeline: its parts, its noising process, and how its denoiser is called. Holds no weights.

    Class attributes:
        pipelines: `_class_name` values in model_index.json; the first is the class that draws from text alone.
        denoiser: The component that is trained, `unet` or `transformer`.
        text_parts: The components that encode prompts: text encoders and tokenizers.
        reads: How many tokens of a caption an encoder reads, by its tokenizer, where that has not the limit of its own.
        lora_targets: Names of the layers that adapters go on by default.
        conditions: Names of the tensors that `encode_prompts` gives and `predict` takes.
        patch: Sides of latents must be multiples of it.
    """

    pipelines: ClassVar[tuple[str, ...]]
    denoiser: ClassVar[str]
    text_parts: ClassVar[tuple[str, ...]]
    reads: ClassVar[Mapping[str, int]] = MappingProxyType({})
    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    conditions: ClassVar[tuple[str, ...]] = ("prompt_embeds",)
    patch: ClassVar[int] = 1

    @abstractmethod
    def process(self, scheduler: Mapping[str, Any]) -> Process:
        """The noising process.

        Args:
            scheduler: What `scheduler_config.json` holds.

        Raises:
            ConfigError: the model predicts something that is not handled.
        """

    @abstractmethod
    def encode_prompts(self, pipeline: Any, prompts: Sequence[str]) -> dict[str, Tensor]:
        """What the denoiser sees of n prompts, by the pipeline's own `encode_prompt`, without guidance.

        Args:
            pipeline: A pipeline that has its text parts at least; on their device.
            prompts: The captions.

        Returns:
            A tensor (n, ...) for each name in `conditions`.
        """

    def condition_shapes(self, denoiser: Mapping[str, Any], tokens: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """Shapes of what `encode_prompts` gives of one prompt, without the batch dimension, as the denoiser takes them.

        Args:
            denoiser: What its config.json holds.
            tokens: How many tokens of a caption each tokenizer of the pipeline reads.
        """
        width = denoiser.get("cross_attention_dim") or denoiser.get("joint_attention_dim")
        shapes: dict[str, tuple[int, ...]] = {"prompt_embeds": (next(iter(tokens.values())), int(width or 0))}
        if "pooled_prompt_embeds" in self.conditions:
            shapes["pooled_prompt_embeds"] = (self.pooled_width(denoiser),)
        return shapes

    def pooled_width(self, denoiser: Mapping[str, Any]) -> int:
        """Width of `pooled_prompt_embeds`, as the denoiser's config.json tells it."""
        return int(denoiser.get("pooled_projection_dim") or 0)

    @abstractmethod
    def predict(self, denoiser: nn.Module, noisy: Tensor, time: Tensor, conditions: Mapping[str, Tensor], sizes: Tensor) -> Tensor:
        """The denoiser's prediction, (n, C, h, w).

        Args:
            denoiser: The module under `denoiser` in the pipeline.
            noisy: (n, C, h, w), in the type of the denoiser's weights.
            time: (n,) in the units of the process.
            conditions: What `encode_prompts` gave, (n, ...) each, in the type of the denoiser's weights.
            sizes: (n, 6) int64: height and width of the picture as it was, top and left of the crop, height and width
                of the crop, in pixels.
        """

    def scale(self, latents: Tensor, vae: Mapping[str, Any]) -> Tensor:
        """Latents as the denoiser knows them, from those (n, C, h, w) that the VAE draws: (z - shift) * factor.

        Args:
            latents: From the VAE's posterior.
            vae: What the VAE's config.json holds. Where it gives `latents_mean` and `latents_std` of each channel, the
                latents are standardised by them before the factor.
        """
        factor = float(vae.get("scaling_factor") or 1.0)
        mean, std = vae.get("latents_mean"), vae.get("latents_std")
        if mean is not None and std is not None:
            return (latents - _channels(latents, mean)) * factor / _channels(latents, std)
        return (latents - float(vae.get("shift_factor") or 0.0)) * factor

    def faults(self, denoiser: Mapping[str, Any], vae: Mapping[str, Any]) -> list[str]:
        """What in the parts' configs keeps the pipeline from being trained, each in a sentence.

        Args:
            denoiser: What the denoiser's config.json holds.
            vae: What the VAE's holds.
        """
        channels, inputs = vae.get("latent_channels", 4), denoiser.get("in_channels")
        outputs = denoiser.get("out_channels", inputs)
        found = []
        if inputs != channels:
            found.append(
                f"Its {self.denoiser} takes {inputs} channels and its VAE makes {channels}: one of them is of another model."
            )
        if outputs not in (inputs, None):
            found.append(f"Its {self.denoiser} gives {outputs} channels for {inputs}: a learned variance is not handled.")
        return found

    def largest(self, denoiser: Mapping[str, Any], vae: Mapping[str, Any]) -> int | None:
        """Pixels of the longest side that the denoiser takes; None where there is no limit. Arguments as for `faults`."""
        return None

    def downscale(self, vae: Mapping[str, Any]) -> int:
        """How many pixels of a side make one place of the latent."""
        return int(2 ** (len(vae.get("block_out_channels", (0,) * 4)) - 1))


def _channels(like: Tensor, values: Sequence[float]) -> Tensor:
    """Values of channels as (C, 1, 1)."""
    return like.new_tensor(list(values)).view(-1, 1, 1)
