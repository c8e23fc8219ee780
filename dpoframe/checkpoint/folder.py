"""The folder of a run's resumable states."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from dpoframe.checkpoint.durable import ASIDE
from dpoframe.checkpoint.pieces import part_of

NAME = re.compile(r"step-(\d+)\.ckpt")


def manifest_of(checkpoint: Path) -> Path:
    """The file that vouches for a checkpoint."""
    return checkpoint.with_suffix(".json")


def files_of(checkpoint: Path) -> list[Path]:
    """The files that a checkpoint's manifest tells of: itself, and with a split model one for each other rank."""
    try:
        parts = int(json.loads(manifest_of(checkpoint).read_text()).get("parts", 1))
    except (OSError, ValueError, AttributeError, TypeError):
        parts = 1
    return [part_of(checkpoint, rank, parts) for rank in range(max(1, parts))]


@dataclass(frozen=True)
class CheckpointFolder:
    """Checkpoints `step-<number>.ckpt`, each with a manifest, and their parts with manifests of their own."""

    path: Path

    def at(self, step: int) -> Path:
        """Where the checkpoint after `step` optimizer steps lies."""
        return self.path / f"step-{step:08d}.ckpt"

    def steps(self) -> list[int]:
        """Steps of the checkpoints that have all their manifests, in order."""
        found = ((file, NAME.fullmatch(file.name)) for file in self.path.glob("step-*.ckpt") if manifest_of(file).is_file())
        return sorted(int(match[1]) for file, match in found if match and _vouched(file))

    def latest(self) -> Path | None:
        """The newest checkpoint that is whole; each broken one on the way is named in a warning and passed over."""
        for step in reversed(self.steps()):
            file = self.at(step)
            if fault := damage(file):
                warnings.warn(f"The checkpoint {file} is passed over: {fault}.", RuntimeWarning, stacklevel=2)
                continue
            return file
        return None

    def prune(self, keep: int, also: Collection[int] = ()) -> None:
        """Removes all but the newest `keep` checkpoints and those of the steps `also`."""
        for step in set(self.steps()[:-keep]).difference(also):
            self._remove(step)

    def drop_after(self, step: int) -> None:
        """Removes the checkpoints after `step`, so that none of their files is taken for one of a later save."""
        for later in self.steps():
            if later > step:
                self._remove(later)

    def sweep(self) -> None:
        """Removes what an interrupted write left: files set aside, and checkpoints that lack a manifest."""
        for file in self._leftovers():
            with contextlib.suppress(OSError):
                file.unlink()

    def _remove(self, step: int) -> None:
        manifest_of(self.at(step)).unlink(missing_ok=True)  # from here on it does not count
        for file in self.path.glob(f"{self.at(step).stem}.*"):
            file.unlink(missing_ok=True)

    def _leftovers(self) -> Iterator[Path]:
        yield from self.path.glob(f".*{ASIDE}")
        kept = {self.at(step).stem for step in self.steps()}
        yield from (file for file in self.path.glob("step-*.*") if file.name.split(".")[0] not in kept)


def _vouched(checkpoint: Path) -> bool:
    return all(manifest_of(file).is_file() for file in files_of(checkpoint))


def damage(checkpoint: Path) -> str:
    """What is wrong with a checkpoint, measured against its manifests; empty where nothing is."""
    faults = ((file, _damage(file)) for file in files_of(checkpoint))
    return next((fault if file == checkpoint else f"of its part {file.name}: {fault}" for file, fault in faults if fault), "")


def _damage(file: Path) -> str:
    try:
        wanted = json.loads(manifest_of(file).read_text())
        size, digest = int(wanted["bytes"]), str(wanted["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its manifest cannot be read ({error})"
    try:
        with file.open("rb") as opened:
            if (there := opened.seek(0, 2)) != size:
                return f"it has {there} bytes, not the {size} that were written"
            opened.seek(0)
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return "" if found == digest else "its SHA-256 is not that of what was written"
