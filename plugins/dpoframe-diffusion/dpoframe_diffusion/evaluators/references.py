"""A folder of pictures that others are compared with."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dpoframe import Asset, Available, Media, Refused
from dpoframe_diffusion.evaluators.features import features_at
from dpoframe_diffusion.evaluators.weights import UNKNOWN_LICENCE, Weights, sha256, weight_files
from dpoframe_diffusion.images import opened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif")


@dataclass(frozen=True, eq=False)
class Vectors:
    """`values` (M, D). Two of them are equal only if they are one, so that what follows from them can be kept."""

    values: NDArray[np.float64]


@dataclass(frozen=True)
class References:
    """The pictures of a folder and its subfolders, by name."""

    folder: str

    @property
    def path(self) -> Path:
        """The folder."""
        return Path(self.folder).expanduser()

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    def files(self) -> tuple[str, ...]:
        """Files whose names end like a picture's, by their paths in the folder, sorted."""
        return tuple(name for name, _, _ in self._listed())

    def probe(self) -> Available | Refused:
        """Whether there are two pictures at least."""
        count = len(self.files())
        if count >= 2:
            return Available()
        return Refused(
            f"the folder {self.folder} holds {count} pictures, expected 2 or more", f"Put pictures there: {', '.join(ENDINGS)}."
        )

    def assets(self) -> tuple[Asset, ...]:
        """Name and digest of the pictures; none where there are none."""
        listed = self._listed()
        if not listed:
            return ()
        return (Asset(f"pictures in {self.name}", f"sha256:{_digest(self.path, listed)}", UNKNOWN_LICENCE),)

    def vectors(self, network: Weights) -> Vectors:
        """The pictures' vectors, made once a process.

        Raises:
            DataError: a picture cannot be read.
        """
        folder = network.path()
        return _vectors(self, _digest(self.path, self._listed()), network, tuple(sha256(file) for file in weight_files(folder)))

    def _listed(self) -> tuple[tuple[str, int, int], ...]:
        """Name, size and time of change of each picture."""
        return tuple(sorted(_found(str(self.path), "")))


def _found(folder: str, before: str) -> Iterator[tuple[str, int, int]]:
    """As `References._listed`, by `scandir`: a spec is read for every verdict, and pathlib takes ten times as long."""
    if not os.path.isdir(folder):  # noqa: PTH112
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _found(entry.path, f"{before}{entry.name}/")
            elif entry.name.lower().endswith(ENDINGS) and entry.is_file():
                state = entry.stat()
                yield f"{before}{entry.name}", state.st_size, state.st_mtime_ns


@functools.lru_cache(maxsize=8)
def _digest(folder: Path, files: tuple[tuple[str, int, int], ...]) -> str:
    """SHA-256 of names and contents, taken anew where a size or time of change is another."""
    lines = (f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}" for name, _, _ in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@functools.lru_cache(maxsize=2)
def _vectors(references: References, digest: str, network: Weights, marks: tuple[str, ...]) -> Vectors:
    import numpy as np

    loaded = features_at(network)
    return Vectors(
        np.stack(
            [loaded.vector(opened(Media("image", path=references.path / file))).double().numpy() for file in references.files()]
        )
    )
