"""The state of the global generators: kept over a pass, and kept with a checkpoint, rank by rank."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning
import numpy
import torch
from lightning.pytorch.callbacks import Callback

from dpoframe.rng import seed_of


@dataclass(frozen=True)
class RandomState:
    """States of torch (host and one device), numpy and Python."""

    torch_state: torch.Tensor
    device_state: torch.Tensor | None
    numpy_state: tuple[Any, ...]
    python_state: tuple[Any, ...]

    @classmethod
    def now(cls, device: torch.device) -> RandomState:
        """The state at this moment."""
        on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(torch.get_rng_state(), on_device, numpy.random.get_state(), random.getstate())  # type: ignore[arg-type]

    def restore(self, device: torch.device) -> None:
        """Sets the generators back."""
        torch.set_rng_state(self.torch_state)
        if self.device_state is not None and device.type == "cuda":
            torch.cuda.set_rng_state(self.device_state, device)
        numpy.random.set_state(self.numpy_state)
        random.setstate(self.python_state)

    @staticmethod
    @contextlib.contextmanager
    def kept(device: torch.device) -> Iterator[None]:
        """Context after which torch's generators stand where they stood."""
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices, enabled=True):
            yield

    def plain(self) -> dict[str, Any]:
        """As tensors, lists and numbers, which load without running code."""
        name, keys, *rest = self.numpy_state
        version, words, gauss = self.python_state
        return {
            "torch": self.torch_state,
            "device": self.device_state,
            "numpy": [name, torch.from_numpy(keys.astype("int64")), *rest],
            "python": [version, list(words), gauss],
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> RandomState:
        """The inverse of `plain`."""
        name, keys, *rest = plain["numpy"]
        version, words, gauss = plain["python"]
        numpy_state = (name, keys.numpy().astype("uint32"), *rest)
        return cls(plain["torch"], plain["device"], numpy_state, (version, tuple(words), gauss))


class RankRandomness(Callback):
    """Saves every rank's generators with each checkpoint, so that a resumed run draws the same dropout."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.device = torch.device("cpu")
        self.loaded: list[dict[str, Any]] = []

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Notes the rank's device."""
        self.device = trainer.strategy.root_device

    def state_dict(self) -> dict[str, Any]:
        """States of all ranks; called on all of them."""
        own = RandomState.now(self.device).plain()
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return {"ranks": [own]}
        ranks: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(ranks, own)
        return {"ranks": ranks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Notes what to restore when training goes on."""
        self.loaded = state_dict["ranks"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Restores this rank's generators; at the start, or with another number of ranks, seeds them rank by rank."""
        if len(self.loaded) != trainer.world_size:
            torch.manual_seed(seed_of(self.seed, "rank", trainer.global_rank, trainer.global_step))
        else:
            RandomState.from_plain(self.loaded[trainer.global_rank]).restore(self.device)
        self.loaded = []
