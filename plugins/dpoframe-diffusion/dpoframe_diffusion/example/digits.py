"""scikit-learn's handwritten digits as captioned pictures, in three shares, so that no picture serves two ends.

The set is the test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, UCI, CC BY 4.0): 1,797 digits of
13 writers, 8x8 cells of 0 to 16. It does not say which writer drew which digit, so a writer may appear in every share.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from dpoframe import Media, MissingExtraError

if TYPE_CHECKING:
    from PIL import Image

Share: TypeAlias = Literal["train", "heldout", "reader"]

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHARES: dict[Share, tuple[int, int]] = {"train": (0, 1000), "heldout": (1000, 1400), "reader": (1400, 1797)}
"""Places in the shuffled set: what the base and the pairs are made of, held-out pairs, and the reader of drawn digits."""

CELLS, DEEPEST = 8, 16
SIDE = 32
"""Edge of a picture, in pixels: four a cell."""

INSTALL = "pip install 'dpoframe-diffusion[example]'"
_ORDER_SEED = 20


@dataclass(frozen=True, eq=False)
class Digit:
    """One handwritten digit.

    Attributes:
        number: Its row in scikit-learn's set.
        label: Which digit it is.
        cells: (8, 8) ink of each cell, in [0, 1].
    """

    number: int
    label: int
    cells: np.ndarray[Any, Any]

    @property
    def caption(self) -> str:
        """What the picture is called."""
        return caption(self.label)

    @property
    def ink(self) -> float:
        """Mean ink of its cells, in [0, 1]."""
        return float(self.cells.mean())

    def picture(self) -> Image.Image:
        """Black ink on white paper, RGB, `SIDE` pixels wide and high."""
        return drawn(self.cells)

    @functools.cached_property
    def media(self) -> Media:
        """The picture as PNG; made once, for it may stand in many pairs."""
        return as_media(self.picture())


def caption(label: int) -> str:
    """The caption of a digit, such as `a handwritten seven`."""
    return f"a handwritten {WORDS[label]}"


@functools.cache
def digits(share: Share) -> tuple[Digit, ...]:
    """The digits of one share, always the same and in the same order; MissingExtraError without scikit-learn."""
    cells, labels = _whole_set()
    order = np.random.default_rng(_ORDER_SEED).permutation(len(labels))
    first, end = SHARES[share]
    return tuple(Digit(int(place), int(labels[place]), cells[place]) for place in order[first:end])


def drawn(cells: np.ndarray[Any, Any]) -> Image.Image:
    """(8, 8) ink in [0, 1] as a picture, enlarged smoothly."""
    from PIL import Image

    paper = Image.fromarray(np.round(255.0 * (1.0 - cells)).astype(np.uint8))
    return paper.resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB")


def as_media(picture: Image.Image) -> Media:
    """A picture as PNG bytes."""
    out = io.BytesIO()
    picture.save(out, "PNG")
    return Media("image", data=out.getvalue())


def opened(media: Media) -> Image.Image:
    """The grey picture that PNG bytes hold."""
    from PIL import Image

    data = media.data if media.data is not None else media.path.read_bytes() if media.path is not None else b""
    return Image.open(io.BytesIO(data)).convert("L")


def inked(media: Media) -> np.ndarray[Any, Any]:
    """(height, width) ink of a picture in [0, 1]: 0 is white, 1 is black."""
    return 1.0 - np.asarray(opened(media), dtype=np.float64) / 255.0


def _whole_set() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Cells (1797, 8, 8) in [0, 1] and labels (1797,)."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "sklearn":  # it is there, and lacks something itself
            raise
        raise MissingExtraError("The example on digits", "scikit-learn", INSTALL) from error
    loaded = load_digits()
    return loaded.images / DEEPEST, loaded.target
