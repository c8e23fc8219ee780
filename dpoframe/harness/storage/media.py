"""Pictures, sounds and films of an evaluation: files named by their content under `blobs/`, and what stands for them in JSON."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpoframe.checkpoint.durable import durable
from dpoframe.harness.storage.texts import all_well_formed
from dpoframe.types import Content, Media

FOLDER = "blobs"

_BLOB = re.compile(rf"{FOLDER}/[0-9a-f]{{32}}(\.\w{{1,5}})?")
# What a file begins with, for those whose name says nothing: a browser asks the name.
_MAGIC = {
    rb"\x89PNG": ".png", rb"\xff\xd8\xff": ".jpg", rb"GIF8": ".gif", rb"RIFF....WEBP": ".webp", rb"RIFF....WAVE": ".wav",
    rb"OggS": ".ogg", rb"fLaC": ".flac", rb"....ftyp": ".mp4",
}  # fmt: skip


@dataclass(frozen=True)
class Blobs:
    """The media below one evaluation's folder."""

    path: Path

    def stored(self, content: Content | Mapping[str, Any]) -> Any:
        """A prompt, response or `meta` as JSON can hold it; media are copied into `blobs/` and named `{"media", "path"}`,
        with `mask` named likewise where one goes with them.

        Halves of characters become U+FFFD.
        """
        return all_well_formed(self._walk(content, self._put))

    def restored(self, content: Any) -> Any:
        """The opposite of `stored`: names of blobs become `Media` again. Names of anything else are left as they are."""
        return self._walk(content, self._get)

    def missing(self, content: Any) -> bool:
        """Whether a stored content names a blob that is not there or is empty."""
        lost: list[str] = []

        def look(value: Any) -> Any:
            parts = [value, value["mask"]] if _is_blob(value) and "mask" in value else [value]
            lost.extend(part["path"] for part in parts if _is_blob(part) and not _there(self.path / part["path"]))
            return value

        self._walk(content, look)
        return bool(lost)

    def _walk(self, content: Any, change: Any) -> Any:
        if isinstance(content, str):
            return content
        if isinstance(content, Media) or _is_blob(content):
            return change(content)
        if isinstance(content, Mapping):
            return {key: self._walk(value, change) for key, value in content.items()}
        if isinstance(content, list | tuple):
            return [self._walk(value, change) for value in content]
        return content

    def _put(self, media: Any) -> Any:
        if not isinstance(media, Media):
            return media
        content = media.data if media.data is not None else Path(str(media.path)).read_bytes()
        name = f"{FOLDER}/{replace(media, mask=None).digest()}{_suffix(media, content)}"
        target = self.path / name
        if not _there(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with durable(target) as file:
                file.write(content)
        mask = {} if media.mask is None else {"mask": self._put(media.mask)}
        return {"media": media.kind, "path": name, **mask}

    def _get(self, value: Any) -> Any:
        if isinstance(value, Media):
            return value
        mask = self._get(value["mask"]) if "mask" in value else None
        return Media(value["media"], path=self.path / value["path"], mask=mask)


def _is_blob(value: Any) -> bool:
    """Whether a value is what `Blobs.stored` writes: nothing that a suite or a model says can name a file elsewhere."""
    if not isinstance(value, Mapping) or set(value) - {"mask"} != {"media", "path"}:
        return False
    if "mask" in value and not (_is_blob(value["mask"]) and value["mask"]["media"] == "image" and "mask" not in value["mask"]):
        return False
    return value["media"] in ("image", "audio", "video") and bool(_BLOB.fullmatch(str(value["path"])))


def _there(file: Path) -> bool:
    return file.is_file() and os.stat(file).st_size > 0  # noqa: PTH116


def _suffix(media: Media, content: bytes) -> str:
    own = media.path.suffix.lower() if media.path is not None else ""
    if re.fullmatch(r"\.\w{1,5}", own):
        return own
    return next((suffix for magic, suffix in _MAGIC.items() if re.match(magic, content, re.DOTALL)), "")
