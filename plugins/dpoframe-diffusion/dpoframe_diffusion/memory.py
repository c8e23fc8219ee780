"""Memory: given back, and what is said where there is too little."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

import torch

from dpoframe import MachineError


def free_memory() -> None:
    """Frees what modules occupied that nobody refers to any more."""
    # They and their hooks refer to one another in circles.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextlib.contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """Turns what is raised where memory runs out into a MachineError; `what` was being done is its subject."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not (known or "not enough memory" in str(error) or "can't allocate memory" in str(error)):
            raise
        raise MachineError(f"{what} needs more memory than there is. Take a smaller size, or a larger machine.") from error
