"""Writing checkpoints while training goes on, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from dpoframe.checkpoint.io import DurableCheckpointIO


class BackgroundCheckpointIO(DurableCheckpointIO):
    """Copies the state into memory and writes it from a thread, of which there is one.

    A save waits for the one before, so no more than one copy is held; what went wrong in the thread is raised then, or by
    `wait`, and `failed` says so as soon as it is known. A checkpoint counts when its manifest is there, as ever: a process that
    is killed meanwhile loses that one alone.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, "dpoframe-checkpoint")
        self._writing: Future[None] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Starts to write a copy of the state as it is now."""
        self.wait()
        copy = copied(checkpoint)
        self._writing = self._threads.submit(super().save_checkpoint, copy, path, storage_options)

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> dict[str, Any]:
        """As ever, once nothing is being written."""
        self.wait()
        return super().load_checkpoint(path, map_location, weights_only)

    def load_pieces(self, path: Path) -> dict[str, Any]:
        """As ever, once nothing is being written."""
        self.wait()
        return super().load_pieces(path)

    @property
    def failed(self) -> bool:
        """Whether it is known by now that the last save went wrong; `wait` then raises what did."""
        return self._writing is not None and self._writing.done() and self._writing.exception() is not None

    def wait(self) -> None:
        """Returns when nothing is being written; raises what went wrong."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def teardown(self) -> None:
        """Waits for the last one."""
        self.wait()


def copied(value: Any) -> Any:
    """Nested containers with every tensor copied into memory of its own, on the host; tensors that share memory share it again."""
    return _copied(value, {})


def _copied(value: Any, known: dict[int, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        if id(value) not in known:
            known[id(value)] = value.detach().to("cpu", copy=True)
        return known[id(value)]
    if isinstance(value, dict):
        return type(value)((name, _copied(one, known)) for name, one in value.items())
    if isinstance(value, list | tuple):
        made: Callable[..., Any] = type(value)
        return made(_copied(one, known) for one in value)
    return value
