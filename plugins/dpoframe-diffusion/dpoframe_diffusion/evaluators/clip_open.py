"""CLIP as open_clip runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpoframe_diffusion.evaluators.clip import Clip, unit

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


@dataclass(frozen=True)
class OpenClip(Clip):
    """A model of open_clip in float32 with its tokenizer and transform."""

    model: Any
    tokenizer: Any
    transform: Any
    where: str

    @classmethod
    def read(cls, folder: Path, where: str) -> OpenClip:
        """Loads a folder that holds `open_clip_config.json`."""
        import open_clip

        model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}", precision="fp32")
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        return cls(model.requires_grad_(False).eval().to(where), tokenizer, transform, where)

    def picture(self, image: Image) -> Tensor:
        """The vector of a picture."""
        import torch

        with torch.inference_mode():
            return unit(self.model.encode_image(self.transform(image)[None].to(self.where)))

    def text(self, words: str) -> Tensor:
        """The vector of a text."""
        import torch

        with torch.inference_mode():
            return unit(self.model.encode_text(self.tokenizer([words]).to(self.where)))

    @property
    def scale(self) -> float:
        """exp(logit_scale)."""
        return float(self.model.logit_scale.detach().double().exp())
