"""The folder of a text classifier by its path or its name on the Hugging Face hub: found here, never downloaded."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpoframe import Asset, MachineError

_READ = ("*.safetensors", "*.json", "*.txt", "*.model")
_LICENCE = re.compile(r"^license:\s*[\"']?([\w.+-]+)", re.MULTILINE)


@dataclass(frozen=True)
class ClassifierWeights:
    """A folder in the layout of transformers.

    Attributes:
        model: Its path, or the model's name on the hub, which is looked for in the hub's cache alone.
    """

    model: str

    @property
    def name(self) -> str:
        """The model's name without its owner or folder."""
        return Path(self.model).name

    def folder(self) -> Path:
        """Where it lies.

        Raises:
            MachineError: It is not on this machine, or lacks its weights; the message says how to get it.
        """
        own = Path(self.model).expanduser()
        found = own if own.exists() else self._cached()
        if found is None:
            raise MachineError(f"The classifier {self.model!r} is not on this machine. Get it once: hf download {self.model}")
        if not (found / "config.json").is_file() or not any(found.glob("*.safetensors")):
            expected = "config.json and weights in safetensors are expected in it; pickles, which can run code, are not read"
            raise MachineError(f"{found} is no folder of a model of transformers: {expected}.")
        return found

    def settings(self) -> dict[str, Any]:
        """What config.json says; MachineError as for `folder`."""
        found: dict[str, Any] = json.loads((self.folder() / "config.json").read_text(encoding="utf-8"))
        return found

    def asset(self) -> Asset:
        """Name, SHA-256 of the listing of all files that are read with their digests, and licence."""
        found = self.folder()
        files = sorted({file for pattern in _READ for file in found.glob(pattern)})
        listing = "\n".join(f"{digest_of(file)}  {file.name}" for file in files)
        return Asset(self.name, f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}", _licence(found))

    def _cached(self) -> Path | None:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            found = try_to_load_from_cache(self.model, "config.json")
        except HFValidationError:
            return None
        return Path(found).parent if isinstance(found, str) else None


def digest_of(file: Path) -> str:
    """SHA-256 of a file, taken once a process unless the file changes."""
    state = file.resolve().stat()
    return _digest(file.resolve(), state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _digest(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _licence(folder: Path) -> str:
    """What the head of the model's card says."""
    card = folder / "README.md"
    head = card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0] if card.is_file() else ""
    found = _LICENCE.search(head)
    return found[1] if found else "LicenseRef-see-its-card"
