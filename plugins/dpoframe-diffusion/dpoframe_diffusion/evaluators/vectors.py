"""Evaluators whose figures need the pictures' vectors, not a number of each picture."""

from __future__ import annotations

import dataclasses
import itertools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpoframe import Available, EvaluatorSpec, Refused, Sample, Scored
from dpoframe_diffusion.evaluators.base import PictureEvaluator
from dpoframe_diffusion.evaluators.features import features_at, suited_features, width_of
from dpoframe_diffusion.evaluators.picture import picture_of
from dpoframe_diffusion.evaluators.weights import Weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class VectorEvaluator(PictureEvaluator):
    """`score` keeps a picture's vector, `aggregate` forms the figures of all of them."""

    def network(self) -> Weights:
        """What turns pictures into vectors."""
        raise NotImplementedError

    def wanted(self) -> Sequence[Weights]:
        """The network."""
        return (self.network(),)

    def suited(self) -> Available | Refused:
        """Whether the network takes pictures."""
        return suited_features(self.network())

    def score(self, sample: Sample) -> Mapping[str, float]:
        """The picture's vector, one number a name."""
        vector = features_at(self.network()).vector(picture_of(sample))
        return dict(zip(self.names(), vector.tolist(), strict=True))

    def names(self) -> tuple[str, ...]:
        """The names of a vector's numbers."""
        return tuple(f"v{place}" for place in range(width_of(self.network())))

    def vectors(self, scores: Sequence[Scored]) -> NDArray[np.float64]:
        """(N, D) of the scored samples."""
        import numpy as np

        taken = operator.itemgetter(*self.names())
        flat = itertools.chain.from_iterable(taken(one.values) for one in scores)
        return np.fromiter(flat, dtype=np.float64).reshape(len(scores), -1)

    def own(self, plain: EvaluatorSpec) -> EvaluatorSpec:
        """The names of a vector's numbers are in it: they are for `aggregate` alone."""
        return dataclasses.replace(super().own(plain), carried=self.names())


def drawn(scores: Sequence[Scored]) -> NDArray[np.int64]:
    """(N,) which sample each one is: a resample holds some several times, and they share their values.

    A sample's pair with itself is no evidence of how alike pictures are, so it is left out however often the sample is drawn.
    Two samples with equal pictures are a pair like any other.
    """
    import numpy as np

    return np.array([id(one.values) for one in scores], dtype=np.int64)
