"""CLIP as transformers runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpoframe_diffusion.evaluators.clip import Clip, unit
from dpoframe_diffusion.quiet import quiet

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn


@dataclass(frozen=True)
class TransformersClip(Clip):
    """A CLIPModel in float32 with its tokenizer and image processor."""

    model: Any
    tokenizer: Any
    processor: Any

    @classmethod
    def read(cls, folder: Path, beside: Path, where: str) -> TransformersClip:
        """Loads weights from `folder`, vocabulary and image processor from `beside`."""
        import torch
        from transformers import CLIPModel

        with quiet():
            model = CLIPModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True, use_safetensors=True)
        return cls.around(model, beside, where)

    @classmethod
    def around(cls, model: nn.Module, beside: Path, where: str) -> TransformersClip:
        """The same around a CLIPModel that is in memory."""
        from transformers import AutoTokenizer

        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(beside, local_files_only=True, trust_remote_code=False)
        return cls(model.requires_grad_(False).eval().to(where), tokenizer, image_processor(beside))

    def picture(self, image: Image) -> Tensor:
        """The vector of a picture."""
        return self.pixels(self.processor(images=image, return_tensors="pt")["pixel_values"])

    def pixels(self, values: Tensor) -> Tensor:
        """The vector of a picture that is resized and normalised already, (1, 3, H, W)."""
        import torch

        with torch.inference_mode():
            return unit(pooled(self.model.get_image_features(pixel_values=values.to(self.model.device))))

    def text(self, words: str) -> Tensor:
        """The vector of a text."""
        import torch

        with torch.inference_mode():
            return unit(pooled(self.model.get_text_features(**self.tokens(words).to(self.model.device))))

    def tokens(self, words: str) -> Any:
        """`input_ids` and `attention_mask`, both (1, T), with both end marks whatever the text's length."""
        most = self.model.config.text_config.max_position_embeddings
        return self.tokenizer([words], truncation=True, max_length=most, return_tensors="pt", return_token_type_ids=False)

    @property
    def scale(self) -> float:
        """exp(logit_scale)."""
        return float(self.model.logit_scale.detach().double().exp())


def image_processor(folder: Path) -> Any:
    """The image processor of a folder, on Pillow: with torchvision its numbers would depend on what is installed."""
    from transformers import AutoImageProcessor

    with quiet():
        return AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True, trust_remote_code=False)


def pooled(found: Any) -> Tensor:
    """What `get_image_features` and `get_text_features` return: vectors, since transformers 5 inside an output."""
    import torch

    vectors: Tensor = found if isinstance(found, torch.Tensor) else found.pooler_output
    return vectors
