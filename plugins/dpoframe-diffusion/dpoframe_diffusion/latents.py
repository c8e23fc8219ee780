"""What pictures and prompts are encoded to: looked up on disk, and made where it is not there yet."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import platformdirs

from dpoframe import DataError, Media
from dpoframe_diffusion.digests import image_digest, text_digest
from dpoframe_diffusion.frozen import Frozen, vae_dtype
from dpoframe_diffusion.images import named, opened
from dpoframe_diffusion.shelf import Entry, Shelf

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

    from dpoframe_diffusion.framing import Frame
    from dpoframe_diffusion.loading import DtypeName, Location

T = TypeVar("T")

Framed: TypeAlias = "tuple[Media, Frame]"
"""A picture, and the part of it that the model sees."""

# Raised when pictures are decoded, scaled or kept in another way than before.
_VERSION = 1
# A shard is written when so many bytes are there.
_SHARD = 2**26


def cache_folder() -> Path:
    """Where encodings are kept: `DPOFRAME_CACHE`, else the user's cache folder. All run folders share it."""
    base = os.environ.get("DPOFRAME_CACHE") or platformdirs.user_cache_dir("dpoframe")
    return Path(base) / "diffusion"


class Encodings:
    """The encodings of one pipeline's VAE and text encoders.

    Those on disk lie in a folder that is named by a digest of the parts that made them, so what another VAE or another
    text encoder made is never found. With the cache or without, an encoding is the same to the bit.

    Args:
        location: The pipeline.
        dtype: Type of the frozen weights.
        cache: Whether encodings are kept on disk. Without, they are made anew for each batch.
        device: Where to encode; by itself a GPU where there is one.
    """

    def __init__(self, location: Location, dtype: DtypeName = "float32", *, cache: bool = True, device: str | None = None) -> None:
        self.location, self.cache = location, cache
        self.frozen = Frozen(location, dtype, device)

    @cached_property
    def images(self) -> Shelf | None:
        """Where moments of pictures are kept; None without the cache."""
        kind = vae_dtype(self.location, self.frozen.dtype)
        return self._shelf("images", image_digest(self.location), kind) if self.cache else None

    @cached_property
    def texts(self) -> Shelf | None:
        """Where embeddings of prompts are kept; None without the cache."""
        return self._shelf("prompts", text_digest(self.location), self.frozen.dtype) if self.cache else None

    def prepare(self, prompts: Iterable[str], pictures: Iterable[Framed]) -> None:
        """Encodes what the cache lacks and lets go of the frozen parts. Without the cache there is nothing to do.

        Args:
            prompts: The captions; repeated ones cost nothing.
            pictures: Pictures and frames. Frames of one picture should follow one another: it is then decoded once.

        Raises:
            DataError: a picture cannot be decoded, or its latent is not finite.
            MachineError: the cache cannot be written, or there is not enough memory.
        """
        if self.images is None or self.texts is None:
            return
        try:
            _keep(self.images, ((_picture_key(*one), one) for one in pictures), self._picture_encoder())
            self.frozen.release_vae()
            _keep(self.texts, ((_prompt_key(text), text) for text in prompts), self._encode_prompt)
        finally:
            self.frozen.release()

    def moments(self, pictures: Sequence[Framed]) -> list[tuple[Tensor, Tensor]]:
        """Mean and standard deviation, float32 (C, h, w) each and not yet scaled, of each picture's posterior.

        Raises:
            DataError: a picture cannot be decoded, or its latent is not finite.
            MachineError: the cache cannot be written, or there is not enough memory.
        """
        keys = [_picture_key(*one) for one in pictures]
        found = _found(self.images, dict(zip(keys, pictures, strict=True)), self._picture_encoder())
        return [(found[key]["mean"], found[key]["std"]) for key in keys]

    def conditions(self, prompts: Sequence[str]) -> list[dict[str, Tensor]]:
        """What the denoiser sees of each prompt: the family's conditions, without a batch dimension."""
        keys = [_prompt_key(text) for text in prompts]
        found = _found(self.texts, dict(zip(keys, prompts, strict=True)), self._encode_prompt)
        return [dict(found[key]) for key in keys]

    def latent(self, media: Media, frame: Frame) -> tuple[Tensor, Tensor]:
        """`moments` of one picture."""
        return self.moments([(media, frame)])[0]

    def prompt(self, text: str) -> dict[str, Tensor]:
        """`conditions` of one prompt."""
        return self.conditions([text])[0]

    def _shelf(self, kind: str, *parts: str) -> Shelf:
        digest = hashlib.blake2b(f"{_VERSION} {' '.join(parts)}".encode(), digest_size=16).hexdigest()
        return Shelf(cache_folder() / f"{kind}-{digest}")

    def _encode_prompt(self, text: str) -> dict[str, Tensor]:
        found = self.frozen.prompts([text])[0]
        if not all(bool(tensor.isfinite().all()) for tensor in found.values() if tensor.is_floating_point()):
            raise DataError(
                f"The text encoders give numbers that are not finite for the caption {text[:80]!r}. Set dtype: float32 or bfloat16 "
                "where they are in float16; else their weights may be damaged: copy them again."
            )
        return found

    def _picture_encoder(self) -> Callable[[Framed], dict[str, Tensor]]:
        """Encodes pictures; the one that was decoded last is kept for its next frame."""
        from dpoframe_diffusion.framing import pixels

        last: list[tuple[Media, Image.Image]] = []

        def encode(framed: Framed) -> dict[str, Tensor]:
            media, frame = framed
            if not last or last[0][0] is not media:
                last[:] = [(media, opened(media))]
            mean, std = self.frozen.moments(pixels(last[0][1], frame)[None])
            _check_finite(media, self.frozen.vae.dtype, mean, std)
            return {"mean": mean[0], "std": std[0]}

        return encode


def _check_finite(media: Media, dtype: torch.dtype, *moments: Tensor) -> None:
    if all(bool(tensor.isfinite().all()) for tensor in moments):
        return
    kind = str(dtype).removeprefix("torch.")
    if kind == "float16":
        fix = (
            "The VAE overflows in float16, as that of SDXL does. Set dtype: float32 or bfloat16, or force_upcast: true in the "
            "VAE's config.json."
        )
    else:
        fix = "Its weights may be damaged: copy the folder 'vae' again. If only this picture fails, drop its pair."
    raise DataError(f"{named(media)} has a latent that is not finite (VAE in {kind}). {fix}")


def _picture_key(media: Media, frame: Frame) -> str:
    return hashlib.blake2b(f"{media.digest()} {frame.key}".encode(), digest_size=16).hexdigest()


def _prompt_key(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _found(shelf: Shelf | None, wanted: Mapping[str, T], encode: Callable[[T], Entry]) -> Mapping[str, Entry]:
    """The entries under the names in `wanted`; those that the shelf lacks are made and put there."""
    found: dict[str, Entry] = {}
    for key in wanted if shelf is not None else ():
        if shelf is not None and (entry := shelf.get(key)) is not None:
            found[key] = entry
    made = {key: encode(what) for key, what in wanted.items() if key not in found}
    if shelf is not None:
        shelf.put(made)
    return {**found, **made}


def _keep(shelf: Shelf, wanted: Iterable[tuple[str, T]], encode: Callable[[T], Entry]) -> None:
    """Makes what the shelf lacks, a shard at a time, so that a run that is cut off loses little."""
    waiting: dict[str, Entry] = {}
    size = 0
    for key, what in wanted:
        if key in waiting or shelf.has([key]):
            continue
        waiting[key] = encode(what)
        size += sum(tensor.numel() * tensor.element_size() for tensor in waiting[key].values())
        if size >= _SHARD:
            shelf.put(waiting)
            waiting, size = {}, 0
    shelf.put(waiting)
