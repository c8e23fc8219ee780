"""Pictures, sounds and films in rows: objects that name a file beside the rows, such as `{"media": "image", "path": "a.png"}`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpoframe.data.rows import RowError, shown
from dpoframe.types import Media

KINDS = ("image", "audio", "video")
_KEYS = {"media", "path"}


def is_media(value: Any) -> bool:
    """Whether a value is an object that names a file: `media` with its kind, `path`, and `mask` where one goes with it."""
    return isinstance(value, Mapping) and set(value) - {"mask"} == _KEYS


def media_of(value: Mapping[str, Any], folder: Path) -> Media:
    """What an object names.

    Args:
        value: As `is_media` has it.
        folder: Where the rows lie; paths start there, and stay below it.

    Raises:
        RowError: the kind is unknown, the path is none or leaves the folder, or no file is there.
    """
    kind, mask = value["media"], value.get("mask")
    if kind not in KINDS:
        raise RowError("wrong-type", f"The kind of media must be one of {', '.join(KINDS)}, found {shown(kind)}.")
    if mask is not None and not (is_media(mask) and mask["media"] == "image" and "mask" not in mask):
        raise RowError("wrong-type", f"A mask must name a picture, as {{'media': 'image', 'path': ...}}, found {shown(mask)}.")
    file = below(value["path"], folder)
    if not file.is_file():
        raise RowError("media-missing", f"The {kind} is not there: {file}.")
    return Media(kind, path=file, mask=None if mask is None else media_of(mask, folder))


def below(path: Any, folder: Path) -> Path:
    """The file that a row names by a path that starts at `folder`; RowError where it is no path or leaves the folder."""
    if not isinstance(path, str) or not path.strip() or "\0" in path:
        raise RowError("wrong-type", f"The path of a file must be text, found {shown(path)}.")
    plain = Path(path)
    if plain.is_absolute() or ".." in plain.parts:
        raise RowError("media-outside", f"The path {path!r:.200} leaves the folder of the rows, {folder}.")
    return folder / plain
