"""How different a model's pictures are from each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from dpoframe import EvaluatorSpec, Scale, Scored
from dpoframe_diffusion.evaluators.base import LIMIT, SpecOf
from dpoframe_diffusion.evaluators.vectors import VectorEvaluator, drawn
from dpoframe_diffusion.evaluators.weights import Weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ImageDiversity(VectorEvaluator):
    """Mean distance, 1 minus the cosine of two pictures' vectors, between pictures of one prompt or of different prompts.

    Alignment tends to narrow what a model draws, which no score of single pictures shows. Neither direction is better by
    itself: noise is diverse as well. Among pictures of one `prompt` each prompt counts once, and those with one picture do not
    count, so the suite's `samples` must be 2 or more. Among `prompts` only pairs of different prompts count.

    Attributes:
        among: Which pairs are looked at.
        encoder: A CLIP or a vision model of transformers, by its folder or its name on the hub.
    """

    among: Literal["prompt", "prompts"] = "prompt"
    encoder: str = "openai/clip-vit-large-patch14"

    spec: ClassVar[EvaluatorSpec] = SpecOf(  # type: ignore[assignment]
        EvaluatorSpec(
            "image_diversity",
            "1",
            "response",
            {},
            "distance",
            aggregates={"distance": Scale(0.0, 2.0, "1 - cosine", None)},
            limit=LIMIT,
        )
    )

    def name(self) -> str:
        """The pairs and the encoder."""
        return f"image_diversity:{self.among}:{self.network().name}"

    def network(self) -> Weights:
        """The encoder."""
        return Weights(self.encoder)

    def aggregate(self, scores: Sequence[Scored]) -> Mapping[str, float]:
        """The mean distance; nan where there is no such pair."""
        import numpy as np

        if len(scores) < 2:
            return {"distance": math.nan}
        found = self.vectors(scores)
        units = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        clusters = np.unique([one.cluster or one.id for one in scores], return_inverse=True)[1].reshape(-1)
        measure = within if self.among == "prompt" else across
        return {"distance": measure(units, clusters, drawn(scores))}


def within(units: NDArray[np.float64], clusters: NDArray[np.int64], which: NDArray[np.int64]) -> float:
    """Mean over clusters of the mean distance of their pairs, for vectors (N, D) of length 1; nan where there are no pairs."""
    import numpy as np

    means = []
    for cluster in range(int(clusters.max()) + 1):
        rows = clusters == cluster
        apart = which[rows][:, None] != which[rows][None, :]
        if apart.any():
            means.append(float((1 - units[rows] @ units[rows].T)[apart].mean()))
    return _bounded(float(np.mean(means))) if means else math.nan


def across(units: NDArray[np.float64], clusters: NDArray[np.int64], which: NDArray[np.int64]) -> float:
    """Mean distance of all pairs of different clusters; a cluster that is drawn again is no other one."""
    import numpy as np

    first = np.full(int(clusters.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, clusters, which)
    origin = first[clusters]
    apart = origin[:, None] != origin[None, :]
    return _bounded(float((1 - units @ units.T)[apart].mean())) if apart.any() else math.nan


def _bounded(value: float) -> float:
    """A distance is never below 0, but rounding is."""
    return max(value, 0.0)
