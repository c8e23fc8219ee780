"""How much people like the look of a picture, whatever it shows: LAION's aesthetic predictors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dpoframe import Available, EvaluatorSpec, Refused, Sample, Scale
from dpoframe_diffusion.evaluators.aesthetic_head import ADDRESS, kind_of, read_head
from dpoframe_diffusion.evaluators.base import LIMIT, PictureEvaluator, SpecOf
from dpoframe_diffusion.evaluators.clip import clip_at, suited_clip
from dpoframe_diffusion.evaluators.features import width_of
from dpoframe_diffusion.evaluators.picture import picture_of
from dpoframe_diffusion.evaluators.weights import MissingWeightsError, Weights


@dataclass(frozen=True)
class Aesthetic(PictureEvaluator):
    """A linear head on the CLIP vector of a picture, of length 1, trained on people's ratings from 1 to 10.

    Two heads are published, and their numbers do not compare. Version 1 is one linear layer for each of three encoders, from
    github.com/LAION-AI/aesthetic-predictor; version 2 is five linear layers on OpenAI's ViT-L/14, from
    github.com/christophschuhmann/improved-aesthetic-predictor, the one of most papers. Either may leave its scale.

    Attributes:
        head: The head's file; it tells its version by itself.
        encoder: The CLIP that the head was trained on, by its folder or its name on the hub.
    """

    head: str
    encoder: str = "openai/clip-vit-large-patch14"

    spec: ClassVar[EvaluatorSpec] = SpecOf(  # type: ignore[assignment]
        EvaluatorSpec("aesthetic", "1", "response", {"score": Scale(None, None, "rating")}, "score", limit=LIMIT)
    )

    def name(self) -> str:
        """The head's version, and the encoder."""
        return f"aesthetic:{self._version}:{self._encoder.name}"

    @property
    def _version(self) -> str:
        try:
            return kind_of(self._head.path())
        except MissingWeightsError:
            return "unknown"

    @property
    def _encoder(self) -> Weights:
        return Weights(self.encoder)

    @property
    def _head(self) -> Weights:
        return Weights(self.head, file=Path(self.head).name, address=ADDRESS)

    def wanted(self) -> Sequence[Weights]:
        """The head, and the encoder."""
        return (self._head, self._encoder)

    def suited(self) -> Available | Refused:
        """Whether the head was made for vectors of the encoder's size."""
        try:
            taken = read_head(self._head.path()).inputs
        except MissingWeightsError as error:
            return Refused(error.reason, error.fix)
        state, given = suited_clip(self._encoder), width_of(self._encoder)
        if isinstance(state, Refused):
            return state
        if given != taken:
            return Refused(
                f"the head takes vectors of {taken} numbers, and {self.encoder} gives {given}", "Name the head's own encoder."
            )
        return Available()

    def score(self, sample: Sample) -> Mapping[str, float]:
        """The rating of one picture."""
        vector = clip_at(self._encoder, "transformers").picture(picture_of(sample))
        return {"score": read_head(self._head.path()).rating(vector)}
