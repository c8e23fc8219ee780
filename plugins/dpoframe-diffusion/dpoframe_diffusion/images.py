"""Pictures: their size from the header alone, and their pixels, upright and in RGB, whatever the file holds.

Pillow decodes. Every fault of a picture is a `PictureError` that names it, so that a reader can refuse the row and a
modality can say which example it could not take. Embedded colour profiles are not applied.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from dpoframe import DataError, Media

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 2**26
"""Pixels of the largest picture that is decoded (8,192 x 8,192, some 200 MB in RGB): a small file can unpack to any size."""

# What cameras, browsers and image generators write. Pillow knows many more, among them some that start other programs.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")


class PictureError(DataError):
    """A picture cannot be used; `code` is the stable code of the fault, as a refused row carries it."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True)
class Header:
    """What a picture's header says: `width` and `height` of the upright picture in pixels, and `format` (`PNG`, `JPEG`, ...)."""

    width: int
    height: int
    format: str


def header(media: Media) -> Header:
    """Size and format of a picture, without decoding it.

    Raises:
        PictureError: it is not there (`media-missing`), is no picture that can be read or its header is damaged
            (`media-damaged`), or has more than `MAX_PIXELS` (`media-too-large`).
    """
    with _picture(media) as image:
        return _header(image)


def check(media: Media) -> Header:
    """As `header`, having read all of the file: what is cut off or damaged further in is found too.

    Much cheaper than decoding: of a PNG only the checksums are looked at, a JPEG is unpacked at an eighth of its size.

    Raises:
        PictureError: as for `header`; `media-damaged` for truncated data; `unsuited` for values of an unknown range.
    """
    with _picture(media) as image:
        found = _header(image)
        grey = image.mode.startswith(("I", "F"))
        _read_through(image)
    if grey:
        opened(media)  # whether its values are of a known range is seen in the pixels alone, and such pictures are few
    return found


def opened(media: Media) -> Image.Image:
    """The picture in mode RGB, upright.

    EXIF orientation is applied, transparency is laid over white, palettes and CMYK are resolved, 16-bit and float greys are
    scaled to 8 bits (not clipped), and of an animation the first frame is taken.

    Raises:
        PictureError: as for `header`; `media-damaged` for truncated data; `unsuited` for values of an unknown range.
    """
    with _picture(media) as image:
        return _upright(image, "white", named(media))


def opened_mask(media: Media) -> Image.Image:
    """A mask in mode L, upright: white where the picture counts in full, black (and transparent) where it does not.

    Raises:
        PictureError: as for `opened`.
    """
    with _picture(media) as image:
        return _upright(image, "black", named(media)).convert("L")


@contextlib.contextmanager
def _picture(media: Media) -> Iterator[Image.Image]:
    """The picture before it is decoded; whatever goes wrong with it while it is open becomes a `PictureError`."""
    from PIL import Image, UnidentifiedImageError

    name = named(media)
    try:
        # Pillow warns of broken metadata, which no pixel depends on, and of sizes, which are checked here.
        with warnings.catch_warnings(), _stream(media) as stream:
            warnings.simplefilter("ignore")
            with Image.open(stream, formats=_formats()) as image:
                _check_size(name, *image.size)
                yield image
    except (PictureError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise PictureError("media-too-large", f"{name} is far too large to decode: {error}") from error
    except UnidentifiedImageError as error:
        raise PictureError(
            "media-damaged",
            f"{name} is no picture that can be read, or its beginning is damaged. Known formats: {', '.join(_formats())}.",
        ) from error
    except PermissionError as error:
        raise PictureError("media-missing", f"{name} may not be read by this user. Change its permissions.") from error
    except Exception as error:  # decoders of damaged data raise nearly anything
        raise PictureError(
            "media-damaged", f"{name} is damaged or cut off ({type(error).__name__}: {error}). Fetch or write it again."
        ) from error


def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this build of Pillow has."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _stream(media: Media) -> BinaryIO:
    if media.kind != "image":
        raise PictureError("wrong-type", f"{named(media)} was given where a picture (kind 'image') is expected.")
    if media.data is not None:
        if not media.data:
            raise PictureError("media-damaged", "The picture holds no bytes.")
        return io.BytesIO(media.data)
    # Opening a pipe would wait for a writer.
    if media.path is None or not media.path.is_file():
        raise PictureError("media-missing", f"{named(media)} is not there, or is no regular file. Correct its path.")
    return media.path.open("rb")


def named(media: Media) -> str:
    """A picture in words: its path, or how many bytes it has and the start of their digest."""
    if media.path is not None:
        return str(media.path)
    return f"The {media.kind} of {len(media.data or b''):,} bytes (digest {media.digest()[:8]})"


def _check_size(name: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PictureError(
            "media-too-large",
            f"{name} has {width} x {height} pixels; at most {MAX_PIXELS:,} are decoded. Scale it down, or drop the row.",
        )


def _header(image: Image.Image) -> Header:
    width, height = image.size
    # Orientations from 5 on lie on their side.
    if _orientation(image) >= 5:
        width, height = height, width
    return Header(width, height, {"MPO": "JPEG"}.get(image.format or "", image.format or ""))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8, from what stands before the pixels; 1 where there is none or it cannot be read."""
    from PIL import Image

    # Pillow turns TIFF itself. For PNG, `image.getexif()` would decode the picture in search of data after the pixels.
    if image.format == "TIFF":
        return 1
    try:
        value = Image.Image.getexif(image).get(0x0112, 1)
    except Exception:  # damaged metadata does not harm the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(image: Image.Image, background: str, name: str) -> Image.Image:
    """Decodes, resolves and turns a picture: mode RGB, transparency over `background`."""
    from PIL import Image

    turn = _orientation(image)
    image.load()
    flat = _flat(_eight_bits(image, name) if image.mode.startswith(("I", "F")) else image, background)
    turns = Image.Transpose
    turned = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }
    return flat.transpose(turned[turn]) if turn in turned else flat


def _flat(image: Image.Image, background: str) -> Image.Image:
    from PIL import Image

    if not image.has_transparency_data:
        return image.convert("RGB")
    behind = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Grey of 16 bits or of floats in [0, 1] as mode L. Pillow's own conversion clips at 255."""
    import numpy as np
    from PIL import Image

    values = np.asarray(image)
    top = 1 if image.mode.startswith("F") else 65535
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= top):
        raise PictureError(
            "unsuited",
            f"{name} is grey of mode {image.mode} with values from {low:g} to {high:g}, expected 0 to {top}. Save it with 8 bits.",
        )
    return Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8))


def _read_through(image: Image.Image) -> None:
    if image.format == "PNG":
        image.verify()
        return
    if image.format in ("JPEG", "MPO"):
        image.draft("L", (1, 1))
    image.load()
