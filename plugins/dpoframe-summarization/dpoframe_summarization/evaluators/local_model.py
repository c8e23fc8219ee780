"""Models by a path or a name on the Hugging Face hub: found on this machine, identified, never downloaded.

A download that nobody asked for would make an evaluation depend on the network, so what is missing is refused with the command
that fetches it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpoframe import Asset, Available, MachineError, Refused

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_FILES = ("*.json", "*.txt", "*.model")
_LICENCE = re.compile(r"^license:\s*[\"']?([\w.+-]+)", re.MULTILINE)
_PIP = 'pip install "dpoframe-summarization[models]"'

LOADING = 1800.0
"""Seconds that one call may take: the first one loads the weights."""


class MissingModelError(MachineError):
    """A model is not on this machine; `fix` is the step that mends it."""

    def __init__(self, reason: str, fix: str) -> None:
        self.reason, self.fix = reason, fix
        super().__init__(f"{reason}. {fix}")


@dataclass(frozen=True)
class LocalModel:
    """A model of transformers.

    Attributes:
        model: Its folder, or its name on the hub.
    """

    model: str

    @property
    def name(self) -> str:
        """Its name without the owner or the folder: what a metric's id has room for."""
        return Path(self.model).expanduser().resolve().name if self._is_path() else self.model.rpartition("/")[2]

    def folder(self) -> Path:
        """Where it lies.

        Raises:
            MissingModelError: it is not on this machine, or its weights are not.
        """
        found = Path(self.model).expanduser() if self._is_path() else self._cached()
        if not (found / "config.json").is_file():
            raise MissingModelError(f"{found} holds no config.json, so it is no model folder of transformers", self._fix())
        if not _weights(found):
            lost = f"{found} holds no weights in safetensors; pickles, which can run code, are not read"
            raise MissingModelError(lost, self._fix())
        return found

    def settings(self) -> dict[str, Any]:
        """What config.json says; errors as for `folder`."""
        found: dict[str, Any] = json.loads((self.folder() / "config.json").read_text(encoding="utf-8"))
        return found

    def probe(self) -> Available | Refused:
        """Whether it and the libraries that load it are here; nothing is loaded."""
        missing = [name for name in ("torch", "transformers", "torchmetrics") if importlib.util.find_spec(name) is None]
        if missing:
            return Refused(f"{', '.join(missing)} is not installed", f"Install with: {_PIP}")
        try:
            self.folder()
        except MissingModelError as error:
            return Refused(error.reason, error.fix)
        return Available()

    def assets(self) -> tuple[Asset, ...]:
        """Name, SHA-256 over all files that decide what it says, and licence; empty where it is not here."""
        try:
            found = self.folder()
        except (MissingModelError, ImportError):
            return ()
        files = sorted({*_weights(found), *(file for ending in _FILES for file in found.glob(ending))})
        listing = "\n".join(f"{_digest(file)}  {file.name}" for file in files)
        return (Asset(self.name, f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}", _licence(found)),)

    def mark(self) -> str:
        """Another word for other bytes of the weights: what is loaded is kept under it."""
        return ",".join(_digest(file) for file in _weights(self.folder()))

    def _is_path(self) -> bool:
        looks = self.model.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(self.model)
        return looks or Path(self.model).expanduser().exists()

    def _cached(self) -> Path:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.model, "config.json")
        if not isinstance(found, str):
            raise MissingModelError(f"the model {self.model} is not on this machine", self._fix())
        return Path(found).parent

    def _fix(self) -> str:
        if self._is_path():
            return "Correct the path, or give the model's name on the Hugging Face hub."
        fetch = f'hf download {self.model} --include "*.json" "*.txt" "*.model" "*.safetensors"'
        return f"Fetch it once: {fetch}\nWhere there is no network, fetch elsewhere with --local-dir, and give the folder's path."


def digest_of(file: Path) -> str:
    """SHA-256 of a file, taken once for one that stays as it is."""
    return _digest(file)


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _digest(file: Path) -> str:
    state = file.stat()
    return _read(file.resolve(), state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _read(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _licence(folder: Path) -> str:
    """What the head of the model's card says."""
    card = folder / "README.md"
    head = card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0] if card.is_file() else ""
    found = _LICENCE.search(head)
    return found[1] if found else "LicenseRef-see-its-card"
