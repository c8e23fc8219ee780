"""How much ink a drawn picture holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dpoframe import Evaluator, EvaluatorSpec, Media, Sample, Scale
from dpoframe_diffusion.example.digits import inked


@dataclass(frozen=True)
class Ink(Evaluator):
    """Mean ink of a picture: 0 for white paper, 1 for black.

    More of it is bolder strokes where the shape stays the same; a picture that is a dark smear has much ink, too, so read it
    beside a measure of legibility.
    """

    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec(
        id="ink", version="1", needs="response", metrics={"mean": Scale(0.0, 1.0, "ink")}, primary="mean"
    )

    def score(self, sample: Sample) -> Mapping[str, float] | None:
        """The mean over all pixels; None for what is no picture."""
        if not isinstance(sample.response, Media) or sample.response.kind != "image":
            return None
        return {"mean": float(inked(sample.response).mean())}
