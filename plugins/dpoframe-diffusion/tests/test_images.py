"""Pictures of every kind come out upright, in RGB and whole, or with a word on what is wrong with them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dpoframe_diffusion.images import MAX_PIXELS, PictureError, check, header, opened, opened_mask
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dpoframe import DataError, Media


def encoded(image: Image.Image, form: str, **options: Any) -> Media:
    """The picture as bytes of a format."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return Media("image", data=buffer.getvalue())


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Random bytes."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds a few bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


# What a viewer does to show a picture with this orientation, in terms of rows and columns (EXIF 2.32, tag 0x0112).
TURNS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation(orientation: int, form: str) -> None:
    """A picture is turned as its EXIF orientation says, and the header gives the size of the turned picture."""
    plain = np.kron(noise(2, 3, 3) // 2 + 64, np.ones((16, 16, 1), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {"quality": 98, "subsampling": 0} if form == "JPEG" else {}
    media = encoded(Image.fromarray(plain), form, exif=exif, **options)
    expected = TURNS[orientation](plain)
    found = opened(media)
    assert found.mode == "RGB"
    assert np.abs(np.asarray(found).astype(int) - expected).mean() < (3 if form == "JPEG" else 1e-9)
    assert (header(media).width, header(media).height, header(media).format) == (*found.size, form)
    assert found.size == expected.shape[1::-1]


def test_damaged_exif_is_passed_over() -> None:
    """Metadata that cannot be read, or an orientation that does not exist, leaves the picture as it is."""
    plain = Image.fromarray(noise(4, 6, 3))
    exif = Image.Exif()
    exif[0x0112] = 77
    for metadata in (exif, b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x09broken"):
        media = encoded(plain, "PNG", exif=metadata)
        assert opened(media).tobytes() == plain.tobytes()
        assert (header(media).width, header(media).height) == (6, 4)


def test_alpha_lies_over_white() -> None:
    """Each channel is a c + (1 - a) 255 for transparency a, and a hidden colour does not shine through."""
    values = noise(8, 8, 4)
    values[0, 0] = (10, 20, 30, 0)
    alpha = values[..., 3:] / 255
    expected = values[..., :3] * alpha + 255 * (1 - alpha)
    found = np.asarray(opened(encoded(Image.fromarray(values), "PNG")))
    assert np.abs(found - expected).max() <= 1
    assert tuple(found[0, 0]) == (255, 255, 255)
    grey = Image.merge("LA", [Image.fromarray(values[..., channel].copy()) for channel in (0, 3)])
    shown = np.asarray(opened(encoded(grey, "PNG")))
    assert np.abs(shown - expected[..., :1]).max() <= 1


def test_palette() -> None:
    """A palette is resolved to its colours; an entry that is marked transparent becomes white."""
    image = Image.new("P", (3, 1))
    image.putpalette([200, 0, 0, 0, 150, 0, 0, 0, 90])
    image.putdata([0, 1, 2])
    assert np.asarray(opened(encoded(image, "PNG"))).tolist() == [[[200, 0, 0], [0, 150, 0], [0, 0, 90]]]
    for options in ({"transparency": 1}, {"transparency": bytes([255, 0, 255])}):
        clear = opened(encoded(image, "PNG", **options))
        assert np.asarray(clear).tolist() == [[[200, 0, 0], [255, 255, 255], [0, 0, 90]]]
    assert np.asarray(opened(encoded(image, "GIF"))).tolist() == [[[200, 0, 0], [0, 150, 0], [0, 0, 90]]]


def test_bilevel_and_grey() -> None:
    """Black and white and grey pictures become RGB with three equal channels."""
    grey = noise(5, 7)
    assert np.array_equal(np.asarray(opened(encoded(Image.fromarray(grey), "PNG"))), np.repeat(grey[..., None], 3, -1))
    bits = opened(encoded(Image.fromarray(grey).convert("1"), "PNG"))
    assert set(np.unique(np.asarray(bits))) <= {0, 255}


def test_sixteen_bits_are_scaled() -> None:
    """A value v of 65,535 becomes round(255 v / 65,535): not clipped, as a plain conversion does, in PNG, TIFF and PGM."""
    values = np.array([[0, 128, 256, 257, 32767, 32768, 65280, 65535]], dtype=np.uint16)
    expected = np.rint(values * 255.0 / 65535).astype(int)
    assert expected.max() == 255
    for form in ("PNG", "TIFF"):
        found = np.asarray(opened(encoded(Image.fromarray(values), form)))
        assert np.array_equal(found[..., 0], expected)
    pgm = b"P5 8 1 65535\n" + values.astype(">u2").tobytes()
    assert np.array_equal(np.asarray(opened(Media("image", data=pgm)))[..., 1], expected)


def test_floats() -> None:
    """Float greys in [0, 1] are scaled; of any other range they are refused with the range that was found."""
    media = encoded(Image.fromarray(np.array([[0.0, 0.25, 1.0]], dtype=np.float32)), "TIFF")
    assert np.asarray(opened(media))[0, :, 0].tolist() == [0, 64, 255]
    bad = encoded(Image.fromarray(np.array([[0.0, 300.5]], dtype=np.float32)), "TIFF")
    with pytest.raises(PictureError, match=r"from 0 to 300.5, expected 0 to 1") as caught:
        opened(bad)
    assert caught.value.code == "unsuited"
    assert bad.digest()[:8] in str(caught.value), "the message says which picture it is"
    with pytest.raises(PictureError, match=r"from 0 to 300.5") as caught:
        check(bad)
    assert caught.value.code == "unsuited"
    assert check(media).width == 3


def test_cmyk() -> None:
    """CMYK comes out as RGB: c = 255 - (C + K) for what is printed without black, and white paper is white."""
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[:, 8:] = (255, 0, 0, 0)
    found = np.asarray(opened(encoded(Image.frombytes("CMYK", (16, 16), ink.tobytes()), "JPEG", quality=98))).astype(int)
    assert found.shape == (16, 16, 3)
    assert np.abs(found[4, 2] - (255, 255, 255)).max() < 6
    assert np.abs(found[4, 13] - (0, 255, 255)).max() < 6


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_animation_gives_its_first_frame(form: str) -> None:
    """Of an animation the first frame is taken."""
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ((200, 0, 0), (0, 0, 200)))
    options = {"lossless": True} if form == "WEBP" else {}
    media = encoded(first, form, save_all=True, append_images=[second], duration=50, **options)
    assert tuple(np.asarray(opened(media))[3, 3]) == (200, 0, 0)
    check(media)


def test_one_pixel() -> None:
    """A picture of one pixel is a picture."""
    media = encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")
    assert (header(media).width, header(media).height) == (1, 1)
    assert opened(media).getpixel((0, 0)) == (1, 2, 3)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated(form: str, share: float) -> None:
    """A file that was cut off anywhere is found by the full check and by decoding, never used half grey."""
    whole = encoded(Image.fromarray(noise(48, 64, 3)), form).data
    assert whole is not None
    check(Media("image", data=whole))
    cut = Media("image", data=whole[: int(len(whole) * share)])
    for act in (check, opened):
        with pytest.raises(PictureError, match=r"cut off|beginning is damaged") as caught:
            act(cut)
        assert caught.value.code == "media-damaged"


def test_half_a_jpeg_has_a_good_header() -> None:
    """Half a JPEG passes the header alone: this is what the full check is for."""
    whole = encoded(Image.fromarray(noise(48, 64, 3)), "JPEG").data
    assert whole is not None
    half = Media("image", data=whole[: len(whole) // 2])
    assert (header(half).width, header(half).height) == (64, 48)
    with pytest.raises(PictureError, match="cut off"):
        check(half)


def test_flipped_bit_in_a_png() -> None:
    """A PNG whose bytes were changed on the way is found by its checksums."""
    whole = bytearray(encoded(Image.fromarray(noise(32, 32, 3)), "PNG").data or b"")
    whole[len(whole) // 2] ^= 4
    with pytest.raises(PictureError, match="damaged"):
        check(Media("image", data=bytes(whole)))


@pytest.mark.parametrize("size", [(9000, 9000), (60000, 60000)])
def test_bomb(size: tuple[int, int]) -> None:
    """A small file that claims to be a huge picture is refused from its header by every function."""
    bomb = Media("image", data=png_header(*size))
    for act in (header, check, opened, opened_mask):
        with pytest.raises(PictureError) as caught:
            act(bomb)
        assert caught.value.code == "media-too-large"
    assert size[0] * size[1] > MAX_PIXELS


def test_real_bomb_is_not_unpacked() -> None:
    """A whole PNG of 240 kB that unpacks to 243 MB is refused without the memory."""
    import tracemalloc

    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(bytes(1 + 3 * 9000)) for _ in range(9000)) + rows.flush()

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0))
    bomb = Media("image", data=b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    assert len(bomb.data or b"") < 300_000
    tracemalloc.start()
    with pytest.raises(PictureError, match="9000 x 9000"):
        check(bomb)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xff\xd8\xff"]
)
def test_no_picture(data: bytes) -> None:
    """What is no picture of a known format is damaged media, and says which formats are known."""
    with pytest.raises(PictureError) as caught:
        header(Media("image", data=data))
    assert caught.value.code == "media-damaged"
    assert isinstance(caught.value, DataError)
    assert not data or "PNG, JPEG" in str(caught.value) or "damaged" in str(caught.value)


def test_missing_and_foreign(tmp_path: Path) -> None:
    """A path without a file, a folder, and media that is no picture are told apart."""
    for path in (tmp_path / "no.png", tmp_path):
        with pytest.raises(PictureError, match=str(path)) as caught:
            header(Media("image", path=path))
        assert caught.value.code == "media-missing"
    with pytest.raises(PictureError, match="kind 'image'"):
        header(Media("audio", data=b"RIFF"))


def test_path_and_bytes_agree(tmp_path: Path) -> None:
    """A picture gives the same from its file as from its bytes."""
    media = encoded(Image.fromarray(noise(5, 4, 3)), "PNG")
    path = tmp_path / "a.dat"
    path.write_bytes(media.data or b"")
    assert opened(Media("image", path=path)).tobytes() == opened(media).tobytes()


def test_mask() -> None:
    """A mask is grey; what is transparent in it is black."""
    values = np.array([[[255, 255, 255, 255], [255, 255, 255, 0], [128, 128, 128, 255]]], dtype=np.uint8)
    found = opened_mask(encoded(Image.fromarray(values), "PNG"))
    assert found.mode == "L"
    assert np.asarray(found).tolist() == [[255, 0, 128]]
    deep = opened_mask(encoded(Image.fromarray(np.array([[0, 32896, 65535]], dtype=np.uint16)), "PNG"))
    assert np.asarray(deep).tolist() == [[0, 128, 255]]


def test_bytes_are_named_by_their_digest() -> None:
    """A picture without a path is named by size and digest, so that it can be found among many."""
    media = Media("image", data=b"nothing")
    with pytest.raises(PictureError, match=f"7 bytes .digest {media.digest()[:8]}"):
        opened(media)


def test_shipped_pictures(real_pictures: Path) -> None:
    """Real photographs and generated pictures pass the full check, and their sizes are those of their files."""
    found = {path.name: check(Media("image", path=path)) for path in sorted(real_pictures.glob("*.[jw]*[gp]"))}
    assert len(found) == 6
    for name, head in found.items():
        assert head.format == ("JPEG" if name.endswith("jpg") else "WEBP")
        assert opened(Media("image", path=real_pictures / name)).size == (head.width, head.height)


@pytest.fixture
def real_pictures() -> Path:
    """The folder of real pictures beside the repository."""
    folder = Path(__file__).parents[3] / ".." / "shared" / "data" / "image_pref"
    if not folder.is_dir():
        pytest.skip(f"no real pictures at {folder}")
    return folder


def specimens() -> list[bytes]:
    """The same picture in every format and many modes."""
    image = Image.fromarray(noise(24, 32, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.arange(768, dtype=np.uint16).reshape(24, 32) * 85)
    made = [
        encoded(image.convert(mode), form, **({"exif": exif} if form in ("PNG", "JPEG", "WEBP", "TIFF") else {}))
        for form, modes in (("PNG", "RGB L P RGBA 1"), ("JPEG", "RGB L CMYK"), ("WEBP", "RGB RGBA"), ("GIF", "P"), ("BMP", "RGB P"))
        for mode in modes.split()
    ]
    made += [encoded(image, "TIFF", exif=exif), encoded(image, "PPM"), encoded(deep, "PNG"), encoded(deep, "TIFF")]
    return [media.data for media in made if media.data is not None]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_of_any_kind(data: st.DataObject) -> None:
    """Whatever bytes are changed or cut, a picture is opened whole at the size its header gave, or refused with a code."""
    content = bytearray(data.draw(st.sampled_from(SPECIMENS)))
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, 150), st.integers(0, 255)), max_size=5)):
        content[place % len(content)] = value
    media = Media("image", data=bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))]))
    try:
        head, found = header(media), opened(media)
    except PictureError as error:
        told = error.code
    else:
        told = ""
        assert (found.mode, found.size) == ("RGB", (head.width, head.height))
    assert told in ("", "media-damaged", "media-too-large", "unsuited")


SPECIMENS = specimens()
