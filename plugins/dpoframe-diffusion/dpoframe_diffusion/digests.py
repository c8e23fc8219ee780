"""Digests of a pipeline's parts, from their files: nothing is loaded."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dpoframe import CheckpointError, MachineError

if TYPE_CHECKING:
    from dpoframe_diffusion.loading import Location

# Notes of the libraries that wrote a config. They change with every version and decide nothing.
_NOTES = ("_diffusers_version", "_name_or_path", "transformers_version", "torch_dtype", "dtype")
_PLAIN = (".json", ".txt", ".model")


def image_digest(location: Location) -> str:
    """Digest of what decides a picture's latent: the VAE's weights and configuration.

    Raises:
        CheckpointError: the VAE's files are not there.
        MachineError: a file may not be read.
    """
    return _digest(location, ("vae",))


def text_digest(location: Location) -> str:
    """Digest of what decides a prompt's embeddings: text encoders and tokenizers, and the kind of pipeline.

    Raises:
        CheckpointError: one of them is not there.
        MachineError: a file may not be read.
    """
    return _digest(location, location.family.text_parts)


def _digest(location: Location, parts: Sequence[str]) -> str:
    digest = hashlib.blake2b(f"{location.index.get('_class_name')}\n".encode(), digest_size=16)
    # What a pipeline does without (the third text encoder of SD3) is listed as null.
    for part in (part for part in parts if (location.index.get(part) or [None])[0] is not None):
        for name, file in part_files(location, part).items():
            digest.update(f"{part}/{name} {_file_digest(file)}\n".encode())
    return digest.hexdigest()


def part_files(location: Location, part: str) -> dict[str, Path]:
    """The files that a component is loaded from, by the names that they would have without a variant.

    Of weights those are the safetensors where there are any, and the variant's where it has its own.

    Raises:
        CheckpointError: there are none.
        MachineError: the folder may not be read.
    """
    folder = location.folder / part
    try:
        files = sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
    except OSError as error:
        raise MachineError(f"{folder} may not be read by this user ({error.strerror}). Change its permissions.") from error
    suffix = ".safetensors" if any(file.suffix == ".safetensors" for file in files) else ".bin"
    weights = [file for file in files if file.suffix == suffix or f"{suffix}.index." in file.name]
    of_variant = [file for file in weights if location.variant and f".{location.variant}" in file.name]
    chosen = of_variant or [file for file in weights if not _is_variant(file)]
    plain = [file for file in files if file.suffix in _PLAIN and ".index." not in file.name]
    if not chosen + plain:
        raise CheckpointError(
            f"The pipeline {location.model} has no folder {part!r} with the files of that component. Copy the whole pipeline."
        )
    named = {file.name.replace(f".{location.variant}", "") if file in of_variant else file.name: file for file in chosen + plain}
    return dict(sorted(named.items()))


def _is_variant(file: Path) -> bool:
    """Whether a file of weights, or their index, says of which variant it is, as `model.fp16.safetensors` does."""
    _, index, tail = file.name.partition(".index.")
    return tail != "json" if index else "." in file.stem


def _file_digest(file: Path) -> str:
    try:
        if file.name.endswith("config.json"):
            return _config_digest(file)
        state = file.stat()
        # A file that is written anew has another time of change, whatever its date says.
        return _content_digest(file.resolve(), state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    except OSError as error:
        raise MachineError(f"{file} cannot be read ({error.strerror}). Change its permissions, or copy it again.") from error


def _config_digest(file: Path) -> str:
    """Of what a configuration says, however it is written."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is no JSON ({error}). Copy it again.") from error
    if isinstance(content, dict):
        content = {name: value for name, value in content.items() if name not in _NOTES}
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


@functools.lru_cache(maxsize=256)
def _content_digest(file: Path, *state: int) -> str:
    """Of a file's bytes; read once a process while `state` is the same."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
