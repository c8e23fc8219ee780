"""The chatter of diffusers, transformers, peft and the hub's client: switched off, unless dpoframe itself is told to talk."""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

_LOUD = ("huggingface_hub", "httpx", "httpx2", "peft")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences loggers and progress bars inside; all as it was afterwards. Does nothing while dpoframe logs at DEBUG."""
    if logging.getLogger("dpoframe").isEnabledFor(logging.DEBUG):
        yield
        return
    with contextlib.ExitStack() as stack:
        for library in ("diffusers", "transformers"):
            stack.enter_context(_silenced(library))
        for name in _LOUD:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        stack.enter_context(warnings.catch_warnings())
        # The libraries call what one of them is about to rename: nothing that a user of theirs could mend.
        for kind in (FutureWarning, DeprecationWarning):
            warnings.simplefilter("ignore", kind)
        yield


@contextlib.contextmanager
def _silenced(library: str) -> Iterator[None]:
    """Context in which a library of this make logs nothing short of a breakdown and shows no progress.

    What it logs as an error it raises as well, and dpoframe tells of that in its own words.
    """
    chatter: Any = importlib.import_module(f"{library}.utils.logging")
    level, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity(logging.CRITICAL)
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        chatter.set_verbosity(level)
        if bars:
            chatter.enable_progress_bar()
