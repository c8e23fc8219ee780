"""How often a drawn digit is read as the digit that was asked for."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dpoframe import Available, Evaluator, EvaluatorSpec, Media, Refused, Sample, Scale
from dpoframe_diffusion.example.digits import CELLS, INSTALL, digits, opened


@dataclass(frozen=True)
class Legibility(Evaluator):
    """Share of drawn digits that a classifier reads as the digit their prompt asks for.

    The classifier is scikit-learn's support vector machine on 8x8 cells, trained on 397 real digits that neither the base nor
    any pair has seen. Each picture is brought to one length first, so that pale and dark digits of one shape read the same.
    Real held-out digits pass through it as a measure of its own errors; see `read_right`.

    Attributes:
        key: The field of the prompt that holds the digit.
    """

    key: str = "digit"
    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec(
        id="legibility", version="1", needs="response", metrics={"rate": Scale(0.0, 1.0, "share")}, primary="rate"
    )

    def probe(self) -> Available | Refused:
        """Needs scikit-learn."""
        if importlib.util.find_spec("sklearn") is None:
            return Refused("scikit-learn is not installed", f"Install it with: {INSTALL}")
        return Available()

    def score(self, sample: Sample) -> Mapping[str, float] | None:
        """1 where the digit is read as it should be, else 0; None where the prompt names none, or there is no picture."""
        wanted = sample.meta.get(self.key)
        if wanted is None or not isinstance(sample.response, Media) or sample.response.kind != "image":
            return None
        return {"rate": float(read([sample.response])[0] == int(wanted))}


def read(pictures: Sequence[Media]) -> list[int]:
    """The digit that the classifier reads in each picture."""
    return [int(found) for found in reader().predict(np.stack([features(one) for one in pictures]))]


def read_right() -> float:
    """Share of the held-out real digits that the classifier reads right: what a perfect model of the digits would reach."""
    real = digits("heldout")
    found = read([one.media for one in real])
    return float(np.mean([label == one.label for label, one in zip(found, real, strict=True)]))


def features(picture: Media) -> np.ndarray[Any, Any]:
    """(64,) ink of 8x8 cells, of length 1; zeros for white paper."""
    from PIL import Image

    cells = opened(picture).resize((CELLS, CELLS), Image.Resampling.BOX)
    flat = 1.0 - np.asarray(cells, dtype=np.float64).reshape(-1) / 255.0
    length = float(np.linalg.norm(flat))
    return flat / length if length > 0 else flat


@functools.cache
def reader() -> Any:
    """The classifier, trained once a process in a fraction of a second."""
    from sklearn.svm import SVC

    known = digits("reader")
    return SVC(C=10.0, gamma=4.0).fit(np.stack([features(one.media) for one in known]), [one.label for one in known])
