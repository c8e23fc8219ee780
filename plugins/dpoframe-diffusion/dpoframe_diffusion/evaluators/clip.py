"""CLIP: a picture and a text as two vectors whose angle says how well they go together (Radford et al. 2021, arXiv 2103.00020).

open_clip runs the model where it imports and the folder has its layout, transformers otherwise; on the same weights both give
the same vectors, up to rounding. Pictures are handed over as PIL pictures and resized by Pillow in either case: resizing by
torchvision gives other numbers, and tensors in [0, 1] would be divided by 255 once more.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dpoframe import Available, Refused
from dpoframe_diffusion.evaluators.device import device
from dpoframe_diffusion.evaluators.weights import Weights, sha256, weight_files

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Library = Literal["auto", "open_clip", "transformers"]


class Clip(ABC):
    """A loaded CLIP. Vectors are (D,) float32 on the CPU, of length 1."""

    @abstractmethod
    def picture(self, image: Image) -> Tensor:
        """The vector of a picture."""

    @abstractmethod
    def text(self, words: str) -> Tensor:
        """The vector of a text. A text that is too long is cut so that its end mark, which CLIP reads, stays."""

    @property
    @abstractmethod
    def scale(self) -> float:
        """exp(logit_scale), which cosines are multiplied by in training."""

    def cosine(self, image: Image, words: str) -> float:
        """Cosine of the angle between the two vectors, summed in float64."""
        return cosine_of(self.picture(image), self.text(words))


def clip_at(weights: Weights, library: Library = "auto", vocabulary: Weights | None = None) -> Clip:
    """Loads a CLIP once a process.

    Args:
        weights: Its folder.
        library: Which library runs it.
        vocabulary: Where its vocabulary and its way of resizing stand, if not beside the weights.

    Raises:
        MissingWeightsError: something is not on this machine.
    """
    folder = weights.path()
    beside = folder if vocabulary is None or has_processor(folder) else vocabulary.path()
    marks = tuple(sha256(file) for file in weight_files(folder))
    return _loaded(folder, beside, _chosen(folder, library), marks, str(device()))


def suited_clip(weights: Weights, library: Library = "auto", vocabulary: Weights | None = None) -> Available | Refused:
    """Whether a folder holds a CLIP, and the library that is asked for can run it."""
    kind = weights.settings().get("model_type")
    if kind != "clip" and not has_open_clip_layout(weights.path()):
        return Refused(
            f"{weights.model} is a model of type {kind!r}, expected 'clip'", "Name a CLIP, such as openai/clip-vit-large-patch14."
        )
    beside = weights if vocabulary is None or has_processor(weights.path()) else vocabulary
    if not has_processor(beside.path()):
        return Refused(
            f"{beside.model} lacks preprocessor_config.json, or the vocabulary (tokenizer.json or vocab.json)",
            "Copy them from the model that these weights were made from.",
        )
    if library != "open_clip":
        return Available()
    if not has_open_clip_layout(weights.path()):
        return Refused(f"{weights.model} holds no open_clip_config.json", "Leave out `library`: transformers reads it.")
    if not open_clip_imports():
        return Refused(
            "open_clip does not import here, or is older than 3.0",
            'Leave out `library`, or: pip install "dpoframe-diffusion[open-clip]" (see `dpoframe doctor`).',
        )
    return Available()


def open_clip_imports() -> bool:
    """Whether open_clip can be used, from version 3 on, which reads folders.

    With a torchvision of another build its import raises RuntimeError, not ImportError.
    """
    try:
        import open_clip
    except Exception:
        return False
    return int(open_clip.__version__.split(".")[0]) >= 3


def has_open_clip_layout(folder: Path) -> bool:
    """Whether open_clip can read a folder."""
    return (folder / "open_clip_config.json").is_file() and any(folder.glob("open_clip_*.*"))


def has_processor(folder: Path) -> bool:
    """Whether vocabulary and image size stand in a folder."""
    return (folder / "preprocessor_config.json").is_file() and any(
        (folder / name).is_file() for name in ("tokenizer.json", "vocab.json")
    )


def _chosen(folder: Path, library: Library) -> Literal["open_clip", "transformers"]:
    if library != "auto":
        return library
    return "open_clip" if has_open_clip_layout(folder) and open_clip_imports() else "transformers"


@functools.lru_cache(maxsize=2)
def _loaded(folder: Path, beside: Path, library: str, marks: tuple[str, ...], where: str) -> Clip:
    """`marks` are the weights' digests: a folder whose weights are exchanged is loaded again."""
    if library == "open_clip":
        from dpoframe_diffusion.evaluators.clip_open import OpenClip

        return OpenClip.read(folder, where)
    from dpoframe_diffusion.evaluators.clip_transformers import TransformersClip

    return TransformersClip.read(folder, beside, where)


def unit(vector: Any) -> Tensor:
    """(D,) of length 1, float32 on the CPU, from (1, D)."""
    import torch

    return torch.nn.functional.normalize(vector[0].cpu().double(), dim=-1).float()


def cosine_of(left: Tensor, right: Tensor) -> float:
    """Cosine of two vectors (D,) of length 1, which rounding may not carry out of its bounds; nan stays nan."""
    value = float(left.double() @ right.double())
    return value if math.isnan(value) else max(-1.0, min(1.0, value))
