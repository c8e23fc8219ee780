"""Weights by a path or a name on the Hugging Face hub: found on this machine, identified, never downloaded.

A download that nobody asked for would make an evaluation depend on the network and on what stands on the hub that day. So
what is missing is refused, with the command that fetches it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpoframe import Asset, MachineError, Refused

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_SETTINGS = (
    "config.json", "open_clip_config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "vocab.txt", "merges.txt",
)  # fmt: skip
_ENDINGS = (".pt", ".pth", ".bin", ".safetensors")
_LICENCE = re.compile(r"^license:\s*[\"']?([\w.+-]+)", re.MULTILINE)
_SHA256 = re.compile(r"[0-9a-f]{64}")

UNKNOWN_LICENCE = "LicenseRef-see-its-card"
"""The licence of weights that come without one."""


class MissingWeightsError(MachineError):
    """Weights are not on this machine, or are not what they should be; `fix` is the step that mends it."""

    def __init__(self, reason: str, fix: str) -> None:
        self.reason, self.fix = reason, fix
        super().__init__(f"{reason}. {fix}")


@dataclass(frozen=True)
class Weights:
    """A model's folder, or one of its files, by name.

    Attributes:
        model: A path, or a name on the hub such as `openai/clip-vit-large-patch14`.
        file: The file that is wanted where `model` is a name on the hub; empty for a folder in transformers' layout.
        beside: Whether the folder's weights are not read: its settings and vocabulary alone.
        address: Where the file can be had, if not on the hub.
    """

    model: str
    file: str = ""
    beside: bool = False
    address: str = ""

    @property
    def name(self) -> str:
        """The model's name without its owner or folder: what a metric's id has room for."""
        return Path(self.model).expanduser().resolve().name if self._is_path() else self.model.rpartition("/")[2]

    def path(self) -> Path:
        """The folder or the file.

        Raises:
            MissingWeightsError: it is not on this machine, or lacks its weights.
        """
        found = Path(self.model).expanduser() if self._is_path() else self._cached()
        if self.file:
            return self._file(found)
        if not (found / "config.json").is_file():
            raise MissingWeightsError(f"{found} holds no config.json, so it is no model folder of transformers", self._fetch())
        files = weight_files(found)
        if not self.beside and files and files[0].suffix == ".bin":
            raise MissingWeightsError(f"{found} holds its weights as a pickle, which can run code when it is read", self._fetch())
        if not self.beside and not files:
            raise MissingWeightsError(f"{found} holds no .safetensors, so the weights are missing", self._fetch())
        return found

    def settings(self) -> dict[str, Any]:
        """What config.json says; errors as for `path`."""
        found: dict[str, Any] = json.loads((self.path() / "config.json").read_text(encoding="utf-8"))
        return found

    def asset(self) -> Asset:
        """Name, SHA-256 and licence. A folder's is that of its files' names and digests; errors as for `path`."""
        found = self.path()
        if found.is_file():
            return Asset(
                f"{self.name}/{found.name}" if found.name != self.name else self.name,
                f"sha256:{sha256(found)}",
                _licence(found.parent),
            )
        files = [*([] if self.beside else weight_files(found)), *(found / name for name in _SETTINGS if (found / name).is_file())]
        listing = "\n".join(f"{sha256(file)}  {file.name}" for file in sorted(files))
        return Asset(self.name, f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}", _licence(found))

    def _is_path(self) -> bool:
        looks = self.model.startswith((".", "/", "~")) or self.model.endswith(_ENDINGS) or not _HUB_ID.fullmatch(self.model)
        return looks or Path(self.model).expanduser().exists()

    def _cached(self) -> Path:
        """The snapshot in the hub's cache; nothing is asked of the network."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.model, self.file or "config.json")
        if not isinstance(found, str):
            what = f"{self.file} of {self.model}" if self.file else f"the model {self.model}"
            raise MissingWeightsError(f"{what} is not on this machine", self._fetch())
        return Path(found).parent if not self.file else Path(found)

    def _file(self, found: Path) -> Path:
        chosen = found / self.file if found.is_dir() else found
        if not chosen.is_file():
            raise MissingWeightsError(f"there is no file {chosen}", self._fetch())
        return chosen

    def _fetch(self) -> str:
        if self.address:
            return f"Correct the path, or fetch it once: curl -LO {self.address}"
        if self._is_path():
            return "Correct the path, or give the model's name on the Hugging Face hub."
        wanted = self.file or ('--include "*.json" "*.txt"' if self.beside else '--include "*.json" "*.txt" "*.safetensors"')
        return f"{_FETCH}hf download {self.model} {wanted}"


_FETCH = "Fetch it once: "


def weight_files(folder: Path) -> list[Path]:
    """The files with weights in a model's folder: safetensors where there are any."""
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))


def refusal(wanted: Sequence[Weights]) -> Refused | None:
    """What is missing of them, all at once, as an answer of `probe`; None where all are there."""
    missing = [error for one in wanted if (error := _missing(one)) is not None]
    if not missing:
        return None
    fixes = list(dict.fromkeys(error.fix for error in missing))
    if any(fix.startswith(_FETCH) for fix in fixes):
        off = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
        where = "HF_HUB_OFFLINE is set here:" if off else "Where there is no network,"
        fixes.append(f"{where} fetch elsewhere with --local-dir, and give the path of what it wrote.")
    return Refused("; ".join(error.reason for error in missing), "\n".join(fixes))


def _missing(weights: Weights) -> MissingWeightsError | None:
    try:
        weights.path()
    except MissingWeightsError as error:
        return error
    return None


def assets(wanted: Sequence[Weights]) -> tuple[Asset, ...]:
    """Those that are there: a spec can be read before the weights are fetched."""
    return tuple(_present(wanted))


def sha256(file: Path) -> str:
    """SHA-256 of a file, taken once a process. The hub's cache names large files by it, so those are not read."""
    target = file.resolve()
    if file.is_symlink() and target.parent.name == "blobs" and _SHA256.fullmatch(target.name):
        return target.name
    state = target.stat()
    return _sha256(target, state.st_size, state.st_mtime_ns)


def _present(wanted: Sequence[Weights]) -> Iterator[Asset]:
    for one in wanted:
        try:
            yield one.asset()
        except MissingWeightsError:
            continue


@functools.lru_cache(maxsize=4096)
def _sha256(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _licence(folder: Path) -> str:
    """What the head of the model's card says."""
    card = folder / "README.md"
    head = card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0] if card.is_file() else ""
    found = _LICENCE.search(head) if head.startswith("---") else None
    return found[1] if found else UNKNOWN_LICENCE
