"""What a run leaves on disk: resumable states (`CheckpointFolder`, `DurableCheckpointIO`) and models (`export`, `open_model`)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpoframe.checkpoint.background import BackgroundCheckpointIO
    from dpoframe.checkpoint.folder import CheckpointFolder
    from dpoframe.checkpoint.io import DurableCheckpointIO
    from dpoframe.checkpoint.model import export, open_model

__all__ = ["BackgroundCheckpointIO", "CheckpointFolder", "DurableCheckpointIO", "export", "open_model"]

_HOMES = {
    "BackgroundCheckpointIO": "background",
    "CheckpointFolder": "folder",
    "DurableCheckpointIO": "io",
    "export": "model",
    "open_model": "model",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"dpoframe.checkpoint.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'dpoframe.checkpoint' has no attribute {name!r}")
