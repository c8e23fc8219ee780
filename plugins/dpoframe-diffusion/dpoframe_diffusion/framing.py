"""Framing: which part of a picture the model sees, at which size.

A picture is scaled until it just covers its target size, flipped where that was drawn, and cropped. With buckets the target
has the picture's own shape as nearly as multiples of a few pixels at the same area allow. The two pictures of a pair share
target, flip and the relative place of the crop, so that nothing but their content tells them apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from dpoframe import DataError, Example, Media, seed_of
from dpoframe_diffusion.images import header

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

_T = TypeVar("_T")
_WIDEST = 2.0
"""Longest side of a bucket over its shortest."""


@dataclass(frozen=True)
class FramingSection:
    """How pictures are brought to the size of the model.

    Attributes:
        resolution: Side of the square that is trained on, in pixels; with buckets the side of a square of their area.
        buckets: Whether a picture keeps about its shape instead of being cropped to a square.
        crop: `center`, or `random`: one of `crops` places along the side that is too long, drawn for a pair.
        crops: How many places `random` draws from. It is finite so that what a picture is encoded to can be kept.
        flip: Whether half of the pairs are seen mirrored, drawn anew each epoch. Not for pictures with writing in them.
        multiple: Sides of buckets are multiples of it.
    """

    resolution: int = 512
    buckets: bool = False
    crop: Literal["center", "random"] = "center"
    crops: int = 4
    flip: bool = False
    multiple: int = 64

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def faults(self) -> list[str]:
        """Everything wrong with the values, each in a sentence."""
        counts = {"resolution": self.resolution, "crops": self.crops, "multiple": self.multiple}
        found = [f"framing.{name} is {value}; it must be at least 1." for name, value in counts.items() if value < 1]
        if not found and self.buckets and self.resolution < self.multiple:
            found = [f"framing.multiple is {self.multiple}; it must not be above the resolution {self.resolution}."]
        return found

    def target(self, aspect: float) -> tuple[int, int]:
        """Width and height of the model's picture for pictures whose width over height is `aspect`."""
        if not self.buckets:
            return self.resolution, self.resolution
        return min(_buckets(self.resolution, self.multiple), key=lambda size: abs(math.log(size[0] / size[1] / aspect)))

    def longest(self) -> int:
        """Longest side of the model's pictures."""
        return max(max(self.target(aspect)) for aspect in (1 / _WIDEST, 1.0, _WIDEST))

    def places(self) -> tuple[float, ...]:
        """Where crops may lie, 0 at the left and top, 1 at the right and bottom."""
        if self.crop == "center" or self.crops == 1:
            return (0.5,)
        return tuple(number / (self.crops - 1) for number in range(self.crops))

    def flips(self) -> tuple[bool, ...]:
        """The states of mirroring that occur."""
        return (False, True) if self.flip else (False,)


@lru_cache
def _buckets(resolution: int, multiple: int) -> tuple[tuple[int, int], ...]:
    """Sizes (width, height) in multiples, of at most the area of the square, from 1:2 to 2:1; the squarest first."""
    area = resolution**2
    found = set()
    for short in range(multiple, resolution + 1, multiple):
        long = area // short // multiple * multiple
        if long <= _WIDEST * short:
            found |= {(short, long), (long, short)}
    # Where the resolution is no multiple, the square is not yet among them.
    side = resolution // multiple * multiple
    return tuple(sorted(found | {(side, side)}, key=lambda size: (abs(math.log(size[0] / size[1])), size)))


@dataclass(frozen=True)
class Frame:
    """The part of one picture that the model sees.

    Attributes:
        original: Width and height of the upright picture.
        resized: Width and height that it is scaled to.
        left: First column of the crop in the scaled (and mirrored) picture.
        top: First row of it.
        width: Width of the crop, which is what the model sees.
        height: Its height.
        flip: Whether the picture is mirrored left to right, before it is cropped.
    """

    original: tuple[int, int]
    resized: tuple[int, int]
    left: int
    top: int
    width: int
    height: int
    flip: bool = False

    @property
    def key(self) -> str:
        """Name of the frame: with the picture's digest it names what the model sees."""
        size = f"{self.resized[0]}x{self.resized[1]}-{self.left}-{self.top}-{self.width}x{self.height}"
        return f"{size}-flip" if self.flip else size

    @property
    def time_ids(self) -> tuple[int, int, int, int, int, int]:
        """SDXL's micro-conditioning (Podell et al. 2023, arXiv:2307.01952, section 2.2).

        Height and width of the original, top and left of the crop, height and width of the target.
        """
        return (self.original[1], self.original[0], self.top, self.left, self.height, self.width)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the crop, as shares of the picture's width and height before mirroring."""
        width, height = self.resized
        left = width - self.left - self.width if self.flip else self.left
        return left / width, self.top / height, (left + self.width) / width, (self.top + self.height) / height


def framed(size: tuple[int, int], target: tuple[int, int], place: float = 0.5, flip: bool = False) -> Frame:
    """The frame of a picture of `size` (width, height) for a `target` size, cropped at `place` along what is too long."""
    scale = max(target[0] / size[0], target[1] / size[1])
    resized = max(target[0], round(size[0] * scale)), max(target[1], round(size[1] * scale))
    left, top = (round((whole - part) * place) for whole, part in zip(resized, target, strict=True))
    return Frame(size, resized, left, top, *target, flip)


def frames(examples: Sequence[Example], section: FramingSection) -> list[Frame]:
    """One frame an example. Examples that share `pair_id` and `seed` share target, flip and place.

    Only headers of pictures are read. Everything drawn comes from the seed.

    Raises:
        DataError: a response is no picture, or its header cannot be read.
    """
    sizes = [_size(example) for example in examples]
    found = []
    for example, size, target in zip(examples, sizes, _targets(examples, sizes, section), strict=True):
        place = _drawn(section.places(), example.seed, "crop")
        found.append(framed(size, target, place, _drawn(section.flips(), example.seed, "flip")))
    return found


def possible_frames(examples: Sequence[Example], section: FramingSection) -> list[list[Frame]]:
    """For each example all frames that `frames` may give it, whatever its seed.

    Raises:
        DataError: as for `frames`.
    """
    sizes = [_size(example) for example in examples]
    targets = _targets(examples, sizes, section)
    return [
        list(dict.fromkeys(framed(size, target, place, flip) for place in section.places() for flip in section.flips()))
        for size, target in zip(sizes, targets, strict=True)
    ]


def _size(example: Example) -> tuple[int, int]:
    if not isinstance(example.response, Media):
        raise DataError(
            f"The response of pair {example.pair_id} is {type(example.response).__name__}, expected a picture (Media). "
            "Read the data with one of the data sets for pictures, such as `name: image_rows`."
        )
    found = header(example.response)
    return found.width, found.height


def _targets(examples: Iterable[Example], sizes: Sequence[tuple[int, int]], section: FramingSection) -> list[tuple[int, int]]:
    """A target an example: that of the geometric mean of its pair's shapes."""
    groups: dict[tuple[str, int], set[float]] = {}
    names = [(example.pair_id, example.seed) for example in examples]
    for name, (width, height) in zip(names, sizes, strict=True):
        groups.setdefault(name, set()).add(math.log(width / height))
    return [section.target(math.exp(math.fsum(groups[name]) / len(groups[name]))) for name in names]


def _drawn(choices: Sequence[_T], seed: int, what: str) -> _T:
    return choices[seed_of(seed, what) % len(choices)]


def pixels(image: Image.Image, frame: Frame) -> Tensor:
    """What the model sees of a picture, float32 (3, height, width) in [-1, 1].

    Scaled with Lanczos' filter, in one step with the crop: rows and columns that are cut away are never made.

    Raises:
        DataError: the picture is not of the size that the frame was made for.
    """
    import numpy as np
    import torch
    from PIL import Image

    if image.size != frame.original:
        raise DataError(
            f"The picture has {image.size[0]} x {image.size[1]} pixels, its frame was made for "
            f"{frame.original[0]} x {frame.original[1]}: the file was changed in between."
        )
    cut = image.resize((frame.width, frame.height), Image.Resampling.LANCZOS, _scaled(frame.box, image.size))
    if frame.flip:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    values = torch.from_numpy(np.array(cut)).permute(2, 0, 1)
    return values.float() / 127.5 - 1.0


def weights(mask: Image.Image, frame: Frame, latent_size: tuple[int, int]) -> Tensor:
    """How much each place of the latent counts: float32 (1, *latent_size), of mean 1.

    Args:
        mask: Grey picture, white where the picture counts; of the picture's size or a scaled copy of it.
        frame: The picture's frame.
        latent_size: Height and width of the latent.

    Raises:
        DataError: the mask is of another shape than the picture, or is black wherever the model looks.
    """
    import numpy as np
    import torch
    from PIL import Image

    require_shape(mask.size, frame)
    # In floats: 8 bits would round away faint weights.
    grey = mask.convert("L").convert("F")
    part = grey.resize(latent_size[::-1], Image.Resampling.BOX, _scaled(frame.box, mask.size))
    if frame.flip:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    values = torch.from_numpy(np.array(part, dtype=np.float32))[None]
    if not values.sum() > 0:
        raise DataError("The mask is black wherever the model looks, so nothing of the picture counts. Correct the mask.")
    return values / values.mean()


def require_shape(mask: tuple[int, int], frame: Frame) -> None:
    """DataError where a mask of that size (width, height) is no scaled copy of the frame's picture."""
    if not same_shape(mask, frame.original):
        (width, height), (across, down) = mask, frame.original
        raise DataError(f"The mask has {width} x {height} pixels, its picture {across} x {down}: they must be of one shape.")


def same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two pictures (width, height) are scaled copies, but for the rounding of their sides to whole pixels."""
    least = min(*size, *other)
    return abs(math.log(size[0] * other[1] / (size[1] * other[0]))) <= 1.0 / least + 1e-9


def _scaled(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A box of shares in pixels, held inside the picture against rounding."""
    width, height = size
    return max(0.0, box[0] * width), max(0.0, box[1] * height), min(width, box[2] * width), min(height, box[3] * height)
