"""GGUF files: converted once to safetensors, kept in the user's cache folder under the digest of the file.

Reading GGUF takes half a minute for a small model and minutes for larger ones; the copy opens in a second, and gives an
adapter trained on such a model a base that plain transformers and peft can load.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dpoframe import CheckpointError, MachineError, MissingExtraError
from dpoframe_text.quiet import quiet

# Raised when a copy made by an earlier version must not be used any more.
_VERSION = 1

log = logging.getLogger(__name__)


def converted(file: Path) -> Path:
    """The folder of the file's safetensors copy (float32) with its tokenizer; made on the first call.

    Raises:
        CheckpointError: transformers cannot read the file.
        MissingExtraError: The package `gguf` is not installed and there is no copy yet.
        MachineError: The cache folder cannot be written.
    """
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=12)).hexdigest()
    target = cache() / f"{file.stem}-{digest}-{_VERSION}"
    if not target.is_dir():
        if importlib.util.find_spec("gguf") is None:
            raise MissingExtraError(f"Reading {file.name}", "gguf", "pip install 'dpoframe-text[gguf]'")
        _convert_into(file, target)
    return target


def cache() -> Path:
    """The folder that holds the copies: `gguf` in the user's cache folder of dpoframe (`XDG_CACHE_HOME` moves it)."""
    from platformdirs import user_cache_path

    return user_cache_path("dpoframe", appauthor=False) / "gguf"


def _convert_into(file: Path, target: Path) -> None:
    """Writes the copy beside its place and renames it, so that a copy is there whole or not at all."""
    log.info("Converting %s once to safetensors in %s", file.name, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            made = Path(scratch) / "model"
            _convert(file, made)
            _rename(made, target)
    except OSError as error:
        raise MachineError(
            f"The safetensors copy of {file.name} could not be written to {target.parent}: {error}. It takes about four bytes "
            "a parameter. Free disk space, or set XDG_CACHE_HOME to a folder that can be written."
        ) from error


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet(), _read_once():
        try:
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
            model: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        except Exception as error:  # the reader fails in many ways on files it does not know
            raise CheckpointError(f"transformers cannot read the GGUF file {file}: {error}") from error
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            # The copy holds plain floats; left in, it would send readers back to the GGUF file.
            del model.config.quantization_config
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def _read_once() -> Iterator[None]:
    """Lets transformers read a file's header once, not three times, and look up tensor names once, not for each module.

    The results are the same; together the two make most of the time of a small model's conversion. Its progress bar,
    which heeds no switch, is taken away meanwhile.
    """
    library = importlib.import_module("gguf")
    reader = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    cached = [(library, name, functools.cache(getattr(library, name))) for name in ("GGUFReader", "get_tensor_name_map")]
    silent = (reader, "tqdm", functools.partial(getattr(reader, "tqdm"), disable=True))  # noqa: B009 - typed as absent
    with contextlib.ExitStack() as stack:
        for module, name, new in (*cached, silent):
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, new)
        yield


def _rename(made: Path, target: Path) -> None:
    try:
        os.replace(made, target)  # noqa: PTH105 - Path.replace says the same; this names the guarantee relied on
    except OSError:
        # Another process was faster; both copies are the same.
        if not target.is_dir():
            raise
        shutil.rmtree(made, ignore_errors=True)
