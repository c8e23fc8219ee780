"""Pictures, sounds and films in rows: objects that name a file beside the rows, such as `{"media": "image", "path": "a.png"}`."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpoframe.data.rows import RowError, shown
from dpoframe.types import Media

KINDS = ("image", "audio", "video")
ROOTS = "DPOFRAME_MEDIA_ROOTS"
"""The environment variable with folders outside the data to which links in the data may lead."""

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
    """The file that a row names by a path that starts at `folder`.

    Raises:
        RowError: it is no path, or it leaves the folder, by its words or through a link.
    """
    if not isinstance(path, str) or not path.strip() or "\0" in path:
        raise RowError("wrong-type", f"The path of a file must be text, found {shown(path)}.")
    plain = Path(path)
    if plain.is_absolute() or ".." in plain.parts:
        raise RowError("media-outside", f"The path {path!r:.200} leaves the folder of the rows, {folder}.")
    file = folder / plain
    if not is_inside(file, folder):
        fix = f"If it is meant, name where it leads: {ROOTS}=FOLDER."
        raise RowError("media-outside", f"The path {path!r:.200} is a link that leaves the folder of the rows, {folder}. {fix}")
    return file


def is_inside(file: Path, folder: Path) -> bool:
    """Whether a file lies below a folder once every link is followed.

    Links may also lead below a folder that `DPOFRAME_MEDIA_ROOTS` names, and from a snapshot in the hub's cache to the
    `blobs` beside it, of which such snapshots are made.
    """
    root = _real(folder)
    try:
        real = file.resolve()
    except (OSError, RuntimeError):  # a link that leads to itself
        return False
    return (
        real.is_relative_to(root) or real.parent == _blobs(root) or any(map(real.is_relative_to, _roots(os.environ.get(ROOTS, ""))))
    )


@functools.lru_cache(maxsize=64)
def _real(folder: Path) -> Path:
    return folder.resolve()


@functools.lru_cache(maxsize=8)
def _roots(named: str) -> tuple[Path, ...]:
    return tuple(Path(one).expanduser().resolve() for one in named.split(os.pathsep) if one.strip())


@functools.lru_cache(maxsize=64)
def _blobs(root: Path) -> Path | None:
    """Where the hub's cache keeps the content of a snapshot: `blobs` beside the `snapshots` that holds `root`."""
    home = next((place.parent for place in (root, *root.parents) if place.name == "snapshots"), None)
    return home / "blobs" if home is not None and home.name.startswith(("datasets--", "models--")) else None
