"""How well a picture fits its prompt, by CLIP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from dpoframe import Available, EvaluatorSpec, Refused, Sample, Scale
from dpoframe_diffusion.evaluators.base import LIMIT, PictureEvaluator, SpecOf
from dpoframe_diffusion.evaluators.clip import Library, clip_at, suited_clip
from dpoframe_diffusion.evaluators.picture import picture_of, words_of
from dpoframe_diffusion.evaluators.weights import Weights

WEIGHT = 2.5
"""What the paper stretches the cosine by."""


@dataclass(frozen=True)
class ClipScore(PictureEvaluator):
    """Cosine between the CLIP vectors of a picture and of its prompt (after Hessel et al. 2021, arXiv 2104.08718, eq. 1).

    `cosine` is the plain number. Two published scales are derived from it: `paper` is 2.5 max(cos, 0), which the paper takes
    with ViT-B/32 and the prefix "A photo depicts "; `percent` is 100 max(cos, 0), as torchmetrics prints it. Scores of
    different encoders, or with and without a prefix, do not compare, so both are in the id.

    Attributes:
        encoder: A CLIP, by its folder or its name on the hub.
        prefix: Put before every prompt.
        library: `open_clip`, `transformers`, or `auto`: open_clip where it imports and the folder has its layout.
    """

    encoder: str = "openai/clip-vit-large-patch14"
    prefix: str = ""
    library: Library = "auto"

    spec: ClassVar[EvaluatorSpec] = SpecOf(  # type: ignore[assignment]
        EvaluatorSpec(
            "clip_score",
            "1",
            "response",
            {
                "cosine": Scale(-1.0, 1.0, "cosine"),
                "paper": Scale(0.0, WEIGHT, "2.5 max(cos, 0)"),
                "percent": Scale(0.0, 100.0, "100 max(cos, 0)"),
            },
            "cosine",
            limit=LIMIT,
        )
    )

    def name(self) -> str:
        """The encoder, and the prefix where there is one."""
        return f"clip_score:{self._weights.name}" + (f":{self.prefix}" if self.prefix else "")

    @property
    def _weights(self) -> Weights:
        return Weights(self.encoder)

    def wanted(self) -> Sequence[Weights]:
        """The encoder."""
        return (self._weights,)

    def suited(self) -> Available | Refused:
        """Whether the encoder is a CLIP that the library can run."""
        return suited_clip(self._weights, self.library)

    def score(self, sample: Sample) -> Mapping[str, float]:
        """The cosine and the scales derived from it."""
        image, words = picture_of(sample), self.prefix + words_of(sample)
        cosine = clip_at(self._weights, self.library).cosine(image, words)
        return {"cosine": cosine, "paper": WEIGHT * max(cosine, 0.0), "percent": 100 * max(cosine, 0.0)}
