"""PickScore: which picture of a prompt people picked, learned from their picks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from dpoframe import Available, EvaluatorSpec, Refused, Sample, Scale
from dpoframe_diffusion.evaluators.base import LIMIT, PictureEvaluator, SpecOf
from dpoframe_diffusion.evaluators.clip import clip_at, has_processor, suited_clip
from dpoframe_diffusion.evaluators.picture import picture_of, words_of
from dpoframe_diffusion.evaluators.weights import MissingWeightsError, Weights


@dataclass(frozen=True)
class PickScore(PictureEvaluator):
    """exp(logit_scale) times the cosine of prompt and picture, by a CLIP-H that was trained on people's picks.

    Kirstain et al. 2023, arXiv 2305.01569, section 4. The softmax of two scores is the chance that people prefer one picture
    to the other, so only scores of pictures of one prompt compare: read the paired difference of two models on the same
    prompts, never a mean of one model on these prompts beside a mean of another on those.

    Attributes:
        model: The weights, by their folder or their name on the hub.
        processor: A folder or name with vocabulary and image size, read where the weights come without.
    """

    model: str = "yuvalkirstain/PickScore_v1"
    processor: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"

    spec: ClassVar[EvaluatorSpec] = SpecOf(  # type: ignore[assignment]
        EvaluatorSpec("pickscore", "1", "response", {"score": Scale(None, None, "logit")}, "score", limit=LIMIT)
    )

    def name(self) -> str:
        """The weights."""
        return f"pickscore:{self._weights.name}"

    @property
    def _weights(self) -> Weights:
        return Weights(self.model)

    @property
    def _beside(self) -> Weights:
        return Weights(self.processor, beside=True)

    def wanted(self) -> Sequence[Weights]:
        """The weights, and the processor where they come without."""
        try:
            whole = has_processor(self._weights.path())
        except MissingWeightsError:
            whole = False
        return (self._weights,) if whole else (self._weights, self._beside)

    def suited(self) -> Available | Refused:
        """Whether the weights are a CLIP's."""
        return suited_clip(self._weights, vocabulary=self._beside)

    def score(self, sample: Sample) -> Mapping[str, float]:
        """The score of one picture."""
        image, words = picture_of(sample), words_of(sample)
        clip = clip_at(self._weights, "transformers", self._beside)
        return {"score": clip.scale * clip.cosine(image, words)}
