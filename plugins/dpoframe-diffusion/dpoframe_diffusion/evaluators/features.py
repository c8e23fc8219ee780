"""What a picture is to a network: one vector, by any CLIP or vision model of transformers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpoframe import Available, Refused
from dpoframe_diffusion.evaluators.clip_transformers import image_processor, pooled
from dpoframe_diffusion.evaluators.device import device
from dpoframe_diffusion.evaluators.weights import MissingWeightsError, Weights, sha256, weight_files
from dpoframe_diffusion.quiet import quiet

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


@dataclass(frozen=True)
class Features:
    """A loaded network in float32."""

    model: Any
    processor: Any

    def vector(self, image: Image) -> Tensor:
        """(D,) float32 on the CPU, of whatever length: CLIP's embedding, else the pooled output, else the first token's."""
        import torch

        pixels = self.processor(images=image, return_tensors="pt")["pixel_values"].to(self.model.device)
        with torch.inference_mode():
            if hasattr(self.model, "get_image_features"):
                found = pooled(self.model.get_image_features(pixel_values=pixels))
            else:
                output = self.model(pixel_values=pixels)
                own = getattr(output, "pooler_output", None)
                found = output.last_hidden_state[:, 0] if own is None else own
        return found.float().flatten().cpu()


def features_at(weights: Weights) -> Features:
    """Loads a network once a process.

    Raises:
        MissingWeightsError: it is not on this machine.
    """
    folder = weights.path()
    return _loaded(folder, tuple(sha256(file) for file in weight_files(folder)), str(device()))


def width_of(weights: Weights) -> int:
    """D, from the settings alone; 0 where they do not say it or are not there."""
    try:
        settings: Mapping[str, Any] = weights.settings()
    except MissingWeightsError:
        return 0
    if settings.get("model_type") == "clip":
        # transformers leaves out of config.json what is its default.
        return int(settings.get("projection_dim", 512))
    sizes = settings.get("hidden_sizes") or [settings.get("hidden_size", 0)]
    return int(sizes[-1])


def suited_features(weights: Weights) -> Available | Refused:
    """Whether a folder holds a network for pictures whose vectors have a known length."""
    if width_of(weights) and (weights.path() / "preprocessor_config.json").is_file():
        return Available()
    return Refused(
        f"{weights.model} is no network for pictures", "Name a CLIP, such as openai/clip-vit-large-patch14, or a vision model."
    )


@functools.lru_cache(maxsize=2)
def _loaded(folder: Path, marks: tuple[str, ...], where: str) -> Features:
    """`marks` are the weights' digests: a folder whose weights are exchanged is loaded again."""
    import torch
    from transformers import AutoModel

    with quiet():
        model = AutoModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
    return Features(model.requires_grad_(False).eval().to(where), image_processor(folder))
