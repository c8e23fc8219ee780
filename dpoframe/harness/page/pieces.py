"""Prompts and responses in the pieces that a page shows: texts cut to a length, chat turns, pictures as data URIs."""

from __future__ import annotations

import base64
import io
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpoframe.harness.page.dimensions import MOST_PIXELS, is_bearable
from dpoframe.harness.storage.media import Blobs
from dpoframe.types import Media, as_text

PROMPT, RESPONSE = 2_000, 3_000
"""Characters that the page holds of a prompt, and of a response."""

STANDING = 900
"""Characters of either that stand open; the rest is folded."""

PICTURE, PICTURES = 120_000, 8_000_000
"""Bytes of one picture that is shown as it is, and of all pictures of a page; larger ones are made smaller."""

EDGE = 640
"""Longest edge, in pixels, of a picture that was made smaller."""

TINY = 96
"""Longest edge of a picture that is enlarged pixel by pixel."""

MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
)
"""First bytes of the formats that every browser shows and that cannot carry a script."""


@dataclass(frozen=True)
class Piece:
    """A text or a picture.

    Attributes:
        role: Who says it, where that needs saying.
        text: The text, or what stands in a picture's place.
        folded: What follows the text when it is unfolded.
        more: Characters that were left out.
        picture: A data URI; empty for a text.
        tiny: Whether the picture is so small that its pixels are better seen than blurred.
    """

    role: str = ""
    text: str = ""
    folded: str = ""
    more: int = 0
    picture: str = ""
    tiny: bool = False


@dataclass
class Budget:
    """Bytes of pictures that the page may still take."""

    left: int = PICTURES


@dataclass(frozen=True)
class Pieces:
    """Makes the pieces of one evaluation's prompts and responses.

    Attributes:
        folder: The evaluation's folder, whose `blobs/` hold pictures by digest.
        budget: Shared by the whole page.
    """

    folder: Path
    budget: Budget = field(default_factory=Budget)

    def prompt(self, content: Any) -> list[Piece]:
        """What was asked. The turn of a lone user needs no name."""
        return self._pieces(content, PROMPT, "user")

    def response(self, content: Any) -> list[Piece]:
        """What was answered."""
        return self._pieces(content, RESPONSE, "assistant")

    def _pieces(self, content: Any, most: int, usual: str) -> list[Piece]:
        content = Blobs(self.folder).restored(content)
        if isinstance(content, list | tuple):
            turns = [one for one in content if isinstance(one, Mapping)]
            named = len(turns) > 1 or any(turn.get("role") != usual for turn in turns)
            return [piece for turn in turns for piece in self._turn(turn, most // max(1, len(turns)), named)]
        return [self._piece(content, most, "")]

    def _turn(self, turn: Mapping[str, Any], most: int, named: bool) -> list[Piece]:
        role, content = str(turn.get("role", "")) if named else "", turn.get("content", "")
        parts: Sequence[Any] = content if isinstance(content, list | tuple) else [content]
        # A chat message's content may be a list of texts and pictures.
        texts = (part.get("text", part) if isinstance(part, Mapping) else part for part in parts)
        return [self._piece(part, most, role if number == 0 else "") for number, part in enumerate(texts)]

    def _piece(self, content: Any, most: int, role: str) -> Piece:
        if isinstance(content, Media):
            return self._media(content, role)
        text = content if isinstance(content, str) else as_text([content]) if isinstance(content, Mapping) else str(content)
        # A fold that hides a few words is not worth opening.
        standing = split(text) if len(text) > 1.2 * STANDING else len(text)
        return Piece(role, text[:standing], text[standing:most], max(0, len(text) - max(most, standing)))

    def _media(self, media: Media, role: str) -> Piece:
        data = media.data if media.path is None else read(media.path)
        name = f"{media.kind} {media.path.name[:12] if media.path is not None else media.digest()[:12]}"
        if data is None:
            return Piece(role, f"[{name}: the file is missing]")
        picture = shrunk(data)
        if picture is None:
            return Piece(role, f"[{name}, {len(data):,} bytes: no picture that a page can show]")
        if len(picture) > self.budget.left:
            return Piece(role, f"[{name}, {len(data):,} bytes: left out to keep the page small]")
        self.budget.left -= len(picture)
        uri = f"data:{kind_of(picture)};base64,{base64.b64encode(picture).decode()}"
        return Piece(role, name, picture=uri, tiny=is_tiny(picture))


def split(text: str) -> int:
    """Where a long text is folded: at the last white space that is near the limit."""
    near = max(text.rfind(white, STANDING - 120, STANDING) for white in " \n")
    return near + 1 if near > 0 else STANDING


def read(file: Path) -> bytes | None:
    """A file's bytes, None where it cannot be read."""
    try:
        return file.read_bytes()
    except OSError:
        return None


def kind_of(data: bytes) -> str:
    """The media type by the first bytes; empty for what is not shown."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in MAGIC if data.startswith(magic)), "")


def is_tiny(data: bytes) -> bool:
    """Whether a PNG says in its header that neither edge is longer than `TINY`; other formats are not for such pictures."""
    return data[:4] == b"\x89PNG" and len(data) >= 24 and all(edge <= TINY for edge in struct.unpack(">II", data[16:24]))


def shrunk(data: bytes) -> bytes | None:
    """A picture no larger than a page can bear, and always in the same bytes; None for what is none, or is too large.

    Too large is also what only becomes so when it is decoded, by a browser or here.
    """
    known = kind_of(data)
    if known and not is_bearable(data):
        return None
    if known and len(data) <= PICTURE:
        return data
    return smaller(data) or (data if known and len(data) <= 10 * PICTURE else None)


def smaller(data: bytes) -> bytes | None:
    """The picture upright, on white, with a longest edge of `EDGE`, as JPEG; None where Pillow is missing or cannot read it."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        return None
    try:
        with warnings.catch_warnings():
            # A small file may hold a picture of gigabytes; Pillow's warning of it is taken for a refusal.
            warnings.simplefilter("error")
            opened = Image.open(io.BytesIO(data))
            if opened.width * opened.height > MOST_PIXELS:
                return None
            opened.draft("RGB", (EDGE, EDGE))
            clear = "A" in opened.getbands() or "transparency" in opened.info
            # How a camera was held is noted beside the pixels, and lost with the note.
            made = ImageOps.exif_transpose(opened).convert("RGBA" if clear else "RGB")
            made.thumbnail((EDGE, EDGE))
            if clear:
                made = Image.alpha_composite(Image.new("RGBA", made.size, "white"), made).convert("RGB")
    except Exception:  # whatever a broken picture makes its reader raise
        return None
    out = io.BytesIO()
    made.save(out, "JPEG", quality=80)
    return out.getvalue()
