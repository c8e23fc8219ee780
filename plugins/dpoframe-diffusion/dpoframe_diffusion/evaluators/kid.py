"""How far a model's pictures are from real ones, as a whole."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from dpoframe import Available, EvaluatorSpec, Refused, Scale, Scored
from dpoframe_diffusion.evaluators.base import LIMIT, SpecOf
from dpoframe_diffusion.evaluators.references import References, Vectors
from dpoframe_diffusion.evaluators.vectors import VectorEvaluator, drawn
from dpoframe_diffusion.evaluators.weights import Weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class Kid(VectorEvaluator):
    """Kernel distance between the model's pictures and a folder of reference pictures.

    The unbiased estimate of the squared maximum mean discrepancy under the kernel (x.y / D + 1)^3 between the pictures'
    vectors, averaged over random subsets (Binkowski et al. 2018, arXiv 1801.01401, section 4). `kid` is 0 on average where
    both come from one distribution, and may be negative then. `subset_std` is its spread over the subsets, which is what
    papers print behind the sign; it shrinks with the size of the subsets, not with the number of pictures, so read the
    interval for how sure `kid` is.

    Numbers of different encoders or references do not compare, and Inception's, which give the distance its name, have
    another size than CLIP's. torchmetrics has the same estimate (a test holds both together), but draws its subsets from
    the process's global generator; here they follow from `seed`.

    Attributes:
        references: A folder of pictures, its subfolders included.
        encoder: A CLIP or a vision model of transformers, by its folder or its name on the hub.
        subsets: How many subsets are drawn.
        subset_size: Pictures of either side in one; fewer where there are not as many.
        seed: What the subsets are drawn from.
    """

    references: str
    encoder: str = "openai/clip-vit-large-patch14"
    subsets: Annotated[int, Ge(1)] = 100
    subset_size: Annotated[int, Ge(2)] = 100
    seed: Annotated[int, Ge(0)] = 0

    spec: ClassVar[EvaluatorSpec] = SpecOf(  # type: ignore[assignment]
        EvaluatorSpec(
            "kid",
            "1",
            "response",
            {},
            "kid",
            aggregates={"kid": Scale(None, None, "squared MMD", "lower"), "subset_std": Scale(0.0, None, "squared MMD", None)},
            limit=LIMIT,
        )
    )

    def name(self) -> str:
        """The encoder and the folder."""
        return f"kid:{self.network().name}:{self._folder.name}"

    def own(self, plain: EvaluatorSpec) -> EvaluatorSpec:
        """The references are an asset too."""
        made = super().own(plain)
        return replace(made, assets=(*made.assets, *self._folder.assets()))

    @property
    def _folder(self) -> References:
        return References(self.references)

    def network(self) -> Weights:
        """The encoder."""
        return Weights(self.encoder)

    def suited(self) -> Available | Refused:
        """Whether there are reference pictures too."""
        state = self._folder.probe()
        return super().suited() if isinstance(state, Available) else state

    def aggregate(self, scores: Sequence[Scored]) -> Mapping[str, float]:
        """The distance, and its spread over subsets."""
        inorder = sorted(scores, key=lambda one: one.id)
        if len(inorder) < 2:
            return {"kid": math.nan, "subset_std": math.nan}
        real = self._folder.vectors(self.network())
        size = min(self.subset_size, len(inorder), len(real.values))
        found = distances(self.vectors(inorder), drawn(inorder), real, _Draws(self.subsets, size, self.seed))
        return {"kid": float(found.mean()), "subset_std": float(found.std())}


@dataclass(frozen=True)
class _Draws:
    """Subsets of `size` numbers below a count, drawn without replacement."""

    subsets: int
    size: int
    seed: int

    def of(self, count: int, side: int) -> Array:
        """(subsets, count) of 0 and 1."""
        return _drawn(self.subsets, self.size, self.seed, count, side)


@functools.lru_cache(maxsize=64)
def _drawn(subsets: int, size: int, seed: int, count: int, side: int) -> Array:
    import numpy as np

    generator = np.random.default_rng([seed, side])
    chosen = np.argsort(generator.random((subsets, count)), axis=1)[:, :size]
    found = np.zeros((subsets, count))
    np.put_along_axis(found, chosen, 1.0, axis=1)
    return found


def kernel(left: Array, right: Array) -> Array:
    """(N, M) of (x.y / D + 1)^3 for vectors (N, D) and (M, D)."""
    base: Array = left @ right.T / left.shape[1] + 1
    # numpy's ** takes ten times as long, and this is formed thousands of times for an interval.
    return base * base * base


def distances(fake: Array, which: NDArray[np.int64], real: Vectors, draws: _Draws) -> Array:
    """(subsets,) squared MMD of each subset; nan where a subset holds one picture over and over.

    Args:
        fake: (N, D).
        which: (N,) equal numbers for what is one and the same sample.
        real: The references.
        draws: The subsets.
    """
    import numpy as np

    left, right = draws.of(len(fake), 0), draws.of(len(real.values), 1)
    apart = (which[:, None] != which[None, :]).astype(np.float64)
    pairs = ((left @ apart) * left).sum(1)
    within = ((left @ (kernel(fake, fake) * apart)) * left).sum(1)
    across = ((left @ kernel(fake, real.values)) * right).sum(1) / draws.size**2
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = within / pairs + _within(real, draws) - 2 * across
    return found


@functools.lru_cache(maxsize=4)
def _within(real: Vectors, draws: _Draws) -> Array:
    """(subsets,) mean kernel of different reference pictures; the same for every resample."""
    import numpy as np

    grams = (kernel(part, part) for part in (real.values[row > 0] for row in draws.of(len(real.values), 1)))
    return np.array([(gram.sum() - np.trace(gram)) / (draws.size * (draws.size - 1)) for gram in grams])
