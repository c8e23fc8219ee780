"""The example's base in the cache folder, under a digest of what makes it: code, settings and digits."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpoframe_diffusion.example.digits import digits

if TYPE_CHECKING:
    from dpoframe_diffusion.example.base_settings import BaseSettings, Progress

CODE = ("digits.py", "vocabulary.py", "networks.py", "base_settings.py", "base_training.py")
RECORD = "made.json"
"""How the base was made, beside model_index.json."""


@dataclass(frozen=True)
class Base:
    """A base on disk.

    Attributes:
        folder: A pipeline that `StableDiffusionPipeline.from_pretrained` loads.
        fresh: Whether this run trained it.
        record: Seconds it took, settings, losses, versions of the libraries.
    """

    folder: Path
    fresh: bool
    record: dict[str, Any]


def base(settings: BaseSettings, progress: Progress) -> Base:
    """The base with these settings; trained where it is not there yet.

    It is written aside and renamed, so that a run that is cut off leaves none.
    """
    folder = place(settings)
    if folder.is_dir():
        return Base(folder, False, _record(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _make(settings, aside, progress)
        try:
            aside.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was quicker, and its base is the same
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Base(folder, True, _record(folder))


def place(settings: BaseSettings) -> Path:
    """Where the base with these settings is kept."""
    return _cache() / "diffusion" / f"digits-base-{_digest(settings)}"


def _make(settings: BaseSettings, folder: Path, progress: Progress) -> None:
    """Trains the base and writes it, with its record."""
    from dpoframe_diffusion.example.base_training import train_base
    from dpoframe_diffusion.quiet import quiet

    started = time.monotonic()
    trained = train_base(settings, progress)
    with quiet():
        trained.pipeline.save_pretrained(str(folder))
    import diffusers
    import torch
    import transformers

    record = {
        "pictures": f"{len(digits('train'))} of scikit-learn's handwritten digits",
        "seconds": round(time.monotonic() - started, 1),
        "weights": {name: _count(getattr(trained.pipeline, name)) for name in ("vae", "text_encoder", "unet")},
        "autoencoder_loss": trained.autoencoder_loss,
        "denoiser_loss": trained.denoiser_loss,
        "settings": dataclasses.asdict(settings),
        "versions": {one.__name__: one.__version__ for one in (torch, diffusers, transformers)},
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    folder.chmod(0o755)  # a temporary folder is for its owner alone


def _record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return found


def _count(module: Any) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _digest(settings: BaseSettings) -> str:
    """16 hex digits of the code that makes the base, its settings and the digits it is made from."""
    seen = hashlib.blake2b(repr(settings).encode(), digest_size=8)
    for name in CODE:
        seen.update((Path(__file__).parent / name).read_bytes())
    for one in digits("train"):
        seen.update(bytes([one.label]) + one.cells.tobytes())
    return seen.hexdigest()


def _cache() -> Path:
    """The cache folder of dpoframe."""
    import platformdirs

    return Path(os.environ.get("DPOFRAME_CACHE") or platformdirs.user_cache_dir("dpoframe"))
