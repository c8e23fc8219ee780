"""HPS: people's preferences between pictures of one prompt, learned by a CLIP."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from dpoframe import Available, EvaluatorSpec, Refused, Sample, Scale
from dpoframe_diffusion.evaluators.base import LIMIT, PictureEvaluator, SpecOf
from dpoframe_diffusion.evaluators.clip import cosine_of, suited_clip
from dpoframe_diffusion.evaluators.device import device
from dpoframe_diffusion.evaluators.picture import picture_of, words_of
from dpoframe_diffusion.evaluators.weights import MissingWeightsError, Weights, sha256
from dpoframe_diffusion.quiet import quiet

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from dpoframe_diffusion.evaluators.clip_transformers import TransformersClip

FILES = {"2.0": "HPS_v2_compressed.pt", "2.1": "HPS_v2.1_compressed.pt"}
"""The published weights, in the hub's `xswu/HPSv2`."""


@dataclass(frozen=True)
class Hps(PictureEvaluator):
    """Human Preference Score v2: the cosine of prompt and picture by a CLIP-H that was trained on people's rankings.

    Wu et al. 2023, arXiv 2306.09341. Papers print it as it is or times 100. Versions 2.0 and 2.1 are trained on other data and
    do not compare. Only pictures of one prompt do.

    Attributes:
        version: Which weights these are.
        weights: The file, or the hub's repository that holds it under its published name.
        encoder: The CLIP it was trained from, by folder or name: its settings and vocabulary are read, its weights are not.
    """

    version: Literal["2.0", "2.1"] = "2.1"
    weights: str = "xswu/HPSv2"
    encoder: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"

    spec: ClassVar[EvaluatorSpec] = SpecOf(  # type: ignore[assignment]
        EvaluatorSpec("hps", "1", "response", {"score": Scale(-1.0, 1.0, "cosine")}, "score", limit=LIMIT)
    )

    def name(self) -> str:
        """The version."""
        return f"hps:v{self.version}"

    @property
    def _file(self) -> Weights:
        return Weights(self.weights, file=Path(self.weights).name if self.weights.endswith(".pt") else FILES[self.version])

    @property
    def _encoder(self) -> Weights:
        return Weights(self.encoder, beside=True)

    def wanted(self) -> Sequence[Weights]:
        """The weights, and the encoder's settings."""
        return (self._file, self._encoder)

    def suited(self) -> Available | Refused:
        """Whether the encoder is a CLIP, and the file's name does not say another version."""
        other = next((version for version, name in FILES.items() if version != self.version and self._file.path().name == name), "")
        if other:
            return Refused(
                f"{self.weights} is version {other}, and version {self.version} is asked for", f'Set version: "{other}".'
            )
        return suited_clip(self._encoder)

    def score(self, sample: Sample) -> Mapping[str, float]:
        """The score of one picture."""
        image, words = picture_of(sample), words_of(sample)
        clip = loaded(self._file.path(), self._encoder.path())
        size = int(clip.model.config.vision_config.image_size)
        vector = clip.pixels(whole(image, size, clip.processor.image_mean, clip.processor.image_std))
        return {"score": cosine_of(vector, clip.text(words))}


def whole(image: Image, size: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(1, 3, size, size): the longer side resized to `size`, black bars at the shorter ones, then normalised.

    Other CLIPs see the middle square alone. HPS v2 resizes after the conversion to floats in [0, 1], so values are not rounded to
    256 steps in between.
    """
    import numpy as np
    import torch

    pixels = torch.from_numpy(np.array(image, dtype=np.float32) / 255).permute(2, 0, 1)[None]
    scale = size / max(image.size)
    height, width = (max(1, round(side * scale)) for side in (image.height, image.width))
    if scale != 1:
        pixels = torch.nn.functional.interpolate(pixels, (height, width), mode="bicubic", antialias=True)
    across, down = size - width, size - height
    framed = torch.nn.functional.pad(pixels, (across // 2, across - across // 2, down // 2, down - down // 2))
    return (framed - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def loaded(file: Path, encoder: Path) -> TransformersClip:
    """The model with its weights, once a process.

    Raises:
        MissingWeightsError: the file holds other weights than those of a CLIP of the encoder's size.
    """
    return _loaded(file, encoder, sha256(file), str(device()))


@functools.lru_cache(maxsize=1)
def _loaded(file: Path, encoder: Path, mark: str, where: str) -> TransformersClip:
    import torch
    from transformers import CLIPConfig, CLIPModel

    from dpoframe_diffusion.evaluators.clip_names import transformers_names
    from dpoframe_diffusion.evaluators.clip_transformers import TransformersClip

    state: Any = torch.load(file, map_location="cpu", weights_only=True)
    with quiet():
        model = CLIPModel(CLIPConfig.from_pretrained(encoder))
    try:
        model.load_state_dict(transformers_names(state.get("state_dict", state)))
    except (RuntimeError, KeyError, AttributeError) as error:
        raise MissingWeightsError(f"{file} holds no CLIP of the size of {encoder}: {error}"[:500], "Fetch it again.") from error
    return TransformersClip.around(model.float(), encoder, where)
