"""What the report shows of prompts and responses."""

from __future__ import annotations

import base64
import io
import warnings
from pathlib import Path
from typing import Any

import pytest

from dpoframe.harness.page import pieces
from dpoframe.types import Media

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def test_large_pictures_are_made_smaller() -> None:
    """A picture over the limit becomes a JPEG of the longest edge; one that would fill the memory is refused."""
    image = pytest.importorskip("PIL.Image")
    noise = image.effect_noise((1600, 900), 90)
    large = save(noise)
    assert len(large) > pieces.PICTURE
    small = pieces.shrunk(large)
    assert small is not None
    assert pieces.kind_of(small) == "image/jpeg"
    assert max(image.open(io.BytesIO(small)).size) == pieces.EDGE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bomb = save(image.new("1", (20_000, 20_000)))
    assert pieces.smaller(bomb) is None


def test_smaller_pictures_look_as_the_large_ones() -> None:
    """A camera's turn is carried out and what is clear becomes white before the JPEG, which knows neither; same bytes each time."""
    image = pytest.importorskip("PIL.Image")
    turned = image.new("RGB", (1200, 600), "red")
    turned.paste("blue", (0, 0, 600, 600))
    exif = turned.getexif()
    exif[0x0112] = 6  # a quarter to the right: the left half comes up
    out = io.BytesIO()
    turned.save(out, "PNG", exif=exif)
    made = image.open(io.BytesIO(pieces.smaller(out.getvalue()) or b""))
    assert made.size == (pieces.EDGE // 2, pieces.EDGE)
    above, below = made.getpixel((160, 100)), made.getpixel((160, 540))
    assert above[2] > 200 > 60 > above[0]
    assert below[0] > 200 > 60 > below[2]
    clear = image.new("RGBA", (900, 900), (0, 0, 0, 0))
    small = pieces.smaller(save(clear))
    assert small == pieces.smaller(save(clear))
    assert image.open(io.BytesIO(small or b"")).getpixel((5, 5)) == (255, 255, 255)
    palette = image.new("P", (900, 900), 3)
    palette.putpalette([200, 10, 10] * 256)
    assert image.open(io.BytesIO(pieces.smaller(save(palette)) or b"")).getpixel((5, 5))[0] > 190


def test_tiny_pictures_keep_their_pixels() -> None:
    """A PNG of few pixels is marked, so that a browser enlarges it without blur; larger ones and other formats are not."""
    image = pytest.importorskip("PIL.Image")
    maker = pieces.Pieces(Path())
    sizes = {size: maker.response(Media("image", data=save(image.new("L", size))))[0].tiny for size in ((32, 32), (96, 8), (97, 8))}
    assert sizes == {(32, 32): True, (96, 8): True, (97, 8): False}
    assert not pieces.is_tiny(b"\x89PNG")


def save(picture: Any) -> bytes:
    """A picture as PNG."""
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def test_budget_of_pictures(tmp_path: Path) -> None:
    """Pictures end where the page's budget does, and the page says what was left out."""
    maker = pieces.Pieces(tmp_path, pieces.Budget(len(PIXEL) + 10))
    first, second = (maker.response(Media("image", data=PIXEL))[0] for _ in range(2))
    assert first.picture
    assert "left out to keep the page small" in second.text


def test_long_texts_are_folded_and_cut() -> None:
    """What is open, what is folded and what is left out make up the whole text, and the fold is at a word's end."""
    text = "word " * 2000
    (piece,) = pieces.Pieces(Path()).response(text)
    assert piece.text + piece.folded == text[: pieces.RESPONSE]
    assert piece.more == len(text) - pieces.RESPONSE
    assert piece.text.endswith(" ")
    (short,) = pieces.Pieces(Path()).response("w" * 1000)
    assert (short.text, short.folded, short.more) == ("w" * 1000, "", 0)


def test_turns_are_named_where_it_matters() -> None:
    """A lone user's turn is only its text; several turns carry their roles; a message may hold a list of texts and pictures."""
    maker = pieces.Pieces(Path())
    assert [(one.role, one.text) for one in maker.prompt([{"role": "user", "content": "hi"}])] == [("", "hi")]
    turns = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "look"}, Media("image", data=PIXEL)]},
    ]
    made = maker.prompt(turns)
    assert [(one.role, one.text[:5]) for one in made] == [("system", "be br"), ("user", "look"), ("", "image")]
    assert made[2].picture.startswith("data:image/png;base64,")
