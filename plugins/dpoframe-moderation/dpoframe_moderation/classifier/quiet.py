"""The chatter of transformers, peft and the hub's client: switched off, unless dpoframe itself is told to talk."""

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
    chatter: Any = importlib.import_module("transformers.utils.logging")
    level, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    levels = {name: logging.getLogger(name).level for name in _LOUD}
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # peft calls what transformers is about to rename: nothing that a user of either could mend.
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        chatter.set_verbosity(level)
        if bars:
            chatter.enable_progress_bar()
        for name, before in levels.items():
            logging.getLogger(name).setLevel(before)
