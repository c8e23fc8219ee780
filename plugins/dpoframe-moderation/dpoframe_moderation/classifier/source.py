"""Where a classifier comes from, told from its name with cheap checks before anything heavy is imported."""

from __future__ import annotations

import json
import os
import re
import socket
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from dpoframe import CheckpointError

HEAD = "ForSequenceClassification"
"""How transformers ends the names of classifiers."""

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


@dataclass(frozen=True)
class Source:
    """A model's place: a folder in the layout of transformers or peft, a GGUF file, or a name on the hub."""

    kind: Literal["folder", "gguf", "hub"]
    where: str

    def __str__(self) -> str:
        return {"folder": "the model folder ", "gguf": "the GGUF file ", "hub": "the hub's model "}[self.kind] + self.where

    @cached_property
    def offline(self) -> bool:
        """Whether the hub must not be asked, because there is no way to it."""
        return self.kind == "hub" and not _hub_reachable()

    def arguments(self, revision: str | None, trust_remote_code: bool) -> tuple[str, dict[str, Any]]:
        """What `from_pretrained` is called with."""
        options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
        if self.kind == "gguf":
            return str(Path(self.where).parent), {**options, "gguf_file": Path(self.where).name}
        if self.kind == "hub":
            options |= {"revision": revision, "local_files_only": self.offline}
        return self.where, options


def locate(model: str) -> Source:
    """Finds out what `model` names.

    Raises:
        CheckpointError: It names a path at which there is no model, or nothing that can be a name.
    """
    path = Path(model).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return Source("gguf", str(path.resolve()))
    if (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
        return Source("folder", str(path.resolve()))
    if path.exists() or model.startswith((".", "/", "~")) or "\\" in model or not _HUB_ID.fullmatch(model):
        raise CheckpointError(
            f"There is no model at {model!r}. Give a folder that holds config.json or adapter_config.json, a .gguf file, or a name "
            "on the Hugging Face hub such as 'sentence-transformers/all-MiniLM-L6-v2'."
        )
    return Source("hub", model)


def is_classifier(folder: Path) -> bool:
    """Whether a folder holds a classifier of transformers, or peft's adapter to one; its small JSON files are looked at."""
    found = (_content(folder / name) for name in ("config.json", "adapter_config.json"))
    return any(
        content.get("task_type") == "SEQ_CLS" or any(str(name).endswith(HEAD) for name in content.get("architectures") or ())
        for content in found
    )


def _content(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _hub_reachable() -> bool:
    """Whether the hub's name resolves. Its client would try for most of a minute before it gave up."""
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
