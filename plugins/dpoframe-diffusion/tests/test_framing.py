"""What part of a picture the model sees: targets, crops and flips, shared in a pair, and their pixels."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from dpoframe_diffusion.framing import Frame, FramingSection, framed, frames, pixels, possible_frames, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dpoframe import DataError, Example, Media


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Random colours."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def media(width: int, height: int, seed: int = 0) -> Media:
    """Random colours as PNG."""
    buffer = io.BytesIO()
    picture(width, height, seed).save(buffer, "PNG")
    return Media("image", data=buffer.getvalue())


def pair(first: tuple[int, int], second: tuple[int, int], seed: int = 1, name: str = "p") -> list[Example]:
    """The two examples of a pair with pictures of these sizes."""
    return [Example("a caption", media(*size), seed, name) for size in (first, second)]


@given(
    size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    target=st.tuples(st.integers(1, 20), st.integers(1, 20)).map(lambda t: (64 * t[0], 64 * t[1])),
    place=st.floats(0, 1),
    flip=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_a_frame_lies_inside(size: tuple[int, int], target: tuple[int, int], place: float, flip: bool) -> None:
    """The scaled picture covers the target, exactly along one side, keeps its shape, and the crop lies inside it."""
    frame = framed(size, target, place, flip)
    assert (frame.width, frame.height) == target
    assert 0 <= frame.left <= frame.resized[0] - target[0]
    assert 0 <= frame.top <= frame.resized[1] - target[1]
    assert frame.resized[0] == target[0] or frame.resized[1] == target[1]
    scale = max(target[0] / size[0], target[1] / size[1])
    assert all(abs(side * scale - to) <= 0.5 + 1e-6 for side, to in zip(size, frame.resized, strict=True))
    assert all(-1e-9 <= edge <= 1 + 1e-9 for edge in frame.box)


def scaled_and_cut(image: Image.Image, frame: Frame, across_first: bool) -> np.ndarray:
    """The whole picture scaled one side after the other, mirrored, and cut: float64 (3, height, width) in [-1, 1]."""
    between = (frame.resized[0], image.height) if across_first else (image.width, frame.resized[1])
    whole = image.resize(between, Image.Resampling.LANCZOS).resize(frame.resized, Image.Resampling.LANCZOS)
    whole = whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if frame.flip else whole
    cut = whole.crop((frame.left, frame.top, frame.left + frame.width, frame.top + frame.height))
    return np.asarray(cut).transpose(2, 0, 1).astype(np.float64) / 255 * 2 - 1


@pytest.mark.parametrize("size", [(90, 50), (50, 90), (64, 64), (31, 17), (1, 1), (200, 65)])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("flip", [False, True])
def test_pixels_are_resize_then_flip_then_crop(size: tuple[int, int], place: float, flip: bool) -> None:
    """The one step equals scaling the whole picture, mirroring it and cutting out the frame, in [-1, 1]."""
    image = picture(*size)
    frame = framed(size, (64, 64), place, flip)
    found = pixels(image, frame)
    assert found.dtype == torch.float32
    assert found.shape == (3, 64, 64)
    # Pillow scales that side first which is cheaper, and rounds in between: of the two orders one must be met.
    apart = min((np.abs(found.numpy() - scaled_and_cut(image, frame, order)) for order in (True, False)), key=np.max)
    assert apart.max() <= 2 / 255 + 1e-6  # a grey level of rounding
    assert apart.mean() < 1e-4


def test_pixels_of_the_same_size_are_untouched() -> None:
    """A picture of the target's size is not resampled: 0 is -1 and 255 is 1, exactly."""
    image = picture(64, 64)
    found = pixels(image, framed((64, 64), (64, 64)))
    assert torch.equal(((found + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0), torch.from_numpy(np.array(image)))
    white = pixels(Image.new("RGB", (8, 8), "white"), framed((8, 8), (8, 8)))
    assert white.min() == 1
    assert pixels(Image.new("RGB", (8, 8)), framed((8, 8), (8, 8))).max() == -1


def test_a_strip_needs_no_memory() -> None:
    """A picture of 30,000 x 2 pixels is framed without ever being scaled to its full length."""
    frame = framed((30000, 2), (512, 512))
    assert frame.resized == (7_680_000, 512)
    assert pixels(Image.new("RGB", (30000, 2), "white"), frame).min() == 1


def test_another_picture_is_told() -> None:
    """A picture of another size than the frame was made for is an error."""
    with pytest.raises(DataError, match="10 x 10 pixels, its frame was made for 9 x 9"):
        pixels(picture(10, 10), framed((9, 9), (8, 8)))


def test_square_without_buckets() -> None:
    """Without buckets every picture becomes the square, also where the two of a pair differ in size."""
    found = frames(pair((100, 50), (30, 80)), FramingSection(resolution=64))
    assert [(frame.width, frame.height) for frame in found] == [(64, 64), (64, 64)]
    assert [frame.resized for frame in found] == [(128, 64), (64, 171)]
    assert [(frame.left, frame.top) for frame in found] == [(32, 0), (0, 54)]


def test_bucket_sizes() -> None:
    """At 1,024 with multiples of 64 the buckets are those that SDXL's users know (arXiv:2307.01952, appendix I), up to 2:1."""
    section = FramingSection(resolution=1024, buckets=True)
    sizes = {section.target(math.exp(step / 200)) for step in range(-200, 201)}
    published = {(768, 1344), (832, 1216), (896, 1152), (1024, 1024)}
    assert published | {(height, width) for width, height in published} <= sizes
    for width, height in sizes:
        assert width % 64 == height % 64 == 0
        assert 0.85 * 1024**2 <= width * height <= 1024**2
        assert max(width, height) <= 2 * min(width, height)


@pytest.mark.parametrize(("resolution", "multiple"), [(512, 64), (500, 64), (64, 8), (32, 8), (8, 8), (96, 64)])
def test_target_is_the_nearest_bucket(resolution: int, multiple: int) -> None:
    """A square picture gets a square, and turning a picture on its side turns its target."""
    section = FramingSection(resolution=resolution, buckets=True, multiple=multiple)
    side = resolution // multiple * multiple
    assert section.target(1.0) == (side, side)
    for aspect in (0.1, 0.45, 0.7, 0.9, 1.2, 3.0):
        assert section.target(aspect) == section.target(1 / aspect)[::-1]


def test_a_pair_shares_target_flip_and_place() -> None:
    """The two of a pair get the bucket of their shapes' geometric mean, and one flip and place; other seeds draw others."""
    section = FramingSection(resolution=512, buckets=True, crop="random", crops=5, flip=True)
    drawn = set()
    for seed in range(64):
        first, second = frames(pair((200, 100), (100, 100), seed), section)
        assert (first.width, first.height) == (second.width, second.height) == section.target(math.sqrt(2))
        assert first.flip == second.flip
        places = [
            frame.left / (frame.resized[0] - frame.width)
            if frame.resized[0] > frame.width
            else frame.top / (frame.resized[1] - frame.height)
            for frame in (first, second)
        ]
        assert abs(places[0] - places[1]) < 0.02
        drawn.add((first.flip, round(4 * places[0])))
    assert drawn == {(flip, place) for flip in (False, True) for place in range(5)}


def test_frames_do_not_depend_on_the_batch() -> None:
    """Frames depend on the pair alone: not on order, nor on what else is framed with it."""
    section = FramingSection(resolution=64, buckets=True, crop="random", flip=True, multiple=8)
    first, second = pair((90, 60), (40, 60), 5, "a"), pair((10, 60), (60, 10), 6, "b")
    together = frames([first[0], second[0], first[1], second[1]], section)
    assert [together[0], together[2]] == frames(first, section)
    assert [together[3], together[1]] == frames(second[::-1], section)


def test_possible_frames_hold_every_drawn_one() -> None:
    """What `frames` draws for any seed is among the possible frames, and nothing else is."""
    section = FramingSection(resolution=64, crop="random", crops=3, flip=True)
    examples = pair((90, 60), (64, 64))
    possible = possible_frames(examples, section)
    assert [len(found) for found in possible] == [6, 2]  # a square has nothing to cut away
    drawn: list[set[Frame]] = [set(), set()]
    for seed in range(64):
        for frame, seen in zip(frames(pair((90, 60), (64, 64), seed), section), drawn, strict=True):
            seen.add(frame)
    assert drawn == [set(found) for found in possible]


def test_keys_tell_frames_apart() -> None:
    """Different frames of a picture have different keys; equal ones have the same."""
    made = [
        framed((90, 60), target, place, flip) for target in ((64, 64), (64, 32)) for place in (0, 0.5, 1) for flip in (False, True)
    ]
    assert len({frame.key for frame in made}) == len(made)
    assert framed((90, 60), (64, 64)).key == "96x64-16-0-64x64"


def test_time_ids() -> None:
    """SDXL's six numbers: original height and width, top and left, target height and width."""
    assert framed((200, 100), (64, 48), 1.0).time_ids == (100, 200, 0, 32, 48, 64)
    assert framed((200, 100), (64, 48), 1.0).resized == (96, 48)


def test_a_text_is_no_picture() -> None:
    """A response that is no picture is told with its pair."""
    with pytest.raises(DataError, match="response of pair x is str, expected a picture"):
        frames([Example("p", "text", 0, "x")], FramingSection())


def test_wrong_sections() -> None:
    """Numbers that make no frame are told, all at once."""
    assert FramingSection(resolution=0, crops=0).faults() == [
        "framing.resolution is 0; it must be at least 1.",
        "framing.crops is 0; it must be at least 1.",
    ]
    assert FramingSection(resolution=32, buckets=True).faults() == [
        "framing.multiple is 64; it must not be above the resolution 32."
    ]
    assert not FramingSection().faults()


def test_weights_follow_the_crop() -> None:
    """A mask is averaged over the crop's cells, mirrored with it, and scaled to mean 1."""
    mask = np.zeros((64, 128), np.uint8)
    mask[:32, 32:64] = 255  # upper left quarter of the centre crop
    for flip, corner in ((False, (slice(0, 4), slice(0, 4))), (True, (slice(0, 4), slice(4, 8)))):
        found = weights(Image.fromarray(mask), framed((128, 64), (64, 64), 0.5, flip), (8, 8))
        expected = torch.zeros(1, 8, 8)
        expected[(slice(None), *corner)] = 4.0
        assert torch.allclose(found, expected)
        assert found.mean().item() == pytest.approx(1)


def test_weights_keep_faint_differences() -> None:
    """Grey values weigh in proportion, cell by cell, against means formed in float64."""
    values = np.random.default_rng(3).integers(0, 256, (32, 32), dtype=np.uint8)
    found = weights(Image.fromarray(values), framed((32, 32), (32, 32)), (4, 4))
    cells = values.astype(np.float64).reshape(4, 8, 4, 8).mean((1, 3))
    assert np.allclose(found[0].numpy(), cells / cells.mean(), rtol=1e-5)
    # A mask of another resolution but the same shape does as well.
    small = weights(Image.fromarray(values).resize((16, 16), Image.Resampling.BOX), framed((32, 32), (32, 32)), (4, 4))
    assert np.allclose(small[0].numpy(), cells / cells.mean(), atol=0.02)


def test_masks_that_cannot_be_used() -> None:
    """A mask of another shape, and one that is black inside the crop, are errors."""
    with pytest.raises(DataError, match="64 x 32 pixels, its picture 64 x 64"):
        weights(Image.new("L", (64, 32), 255), framed((64, 64), (64, 64)), (8, 8))
    edge = np.zeros((64, 128), np.uint8)
    edge[:, :16] = 255
    with pytest.raises(DataError, match="black wherever the model looks"):
        weights(Image.fromarray(edge), framed((128, 64), (64, 64)), (8, 8))
