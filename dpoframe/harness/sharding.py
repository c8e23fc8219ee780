"""One command over several processes: each does its share of the plan, and they wait for each other between phases.

Lightning starts the processes, or recognises those that torchrun or SLURM started. Nothing but the waiting goes over the
wire: results travel through the store, so all processes must see the same folder.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from dpoframe.companions import wait, watched
from dpoframe.errors import ConfigError

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")

_LONGEST_WAIT = timedelta(days=7)


def _at_once() -> None:
    """One process waits for nobody."""


@dataclass(frozen=True)
class Ranks:
    """This process among all that share a command's work; `wait` returns when all have called it."""

    rank: int = 0
    count: int = 1
    wait: Callable[[], None] = _at_once

    @property
    def first(self) -> bool:
        """Whether this process merges what all have made, and writes the exports."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This process's items of the whole plan: every `count`-th, so that long and short ones are dealt out evenly."""
        return list(items[self.rank :: self.count])

    def has(self, number: int, together: int = 1) -> bool:
        """Whether the item of this number, from 0, is this process's, where so many in a row are not to be parted."""
        return number // max(1, together) % self.count == self.rank


ALONE = Ranks()


@contextlib.contextmanager
def launched(devices: int = 1) -> Iterator[tuple[Ranks, torch.device]]:
    """Context with this process's place and its device, after the other processes were started where there are any.

    Under torchrun or SLURM the processes are there already, and their number is the launcher's; `devices` must agree or be 1.
    Otherwise Lightning starts `devices` processes that run the same command line.

    Raises:
        ConfigError: there are not that many devices, or an outer launcher started another number of processes.
        CompanionError, MachineError: another process has ended.
    """
    if devices < 1:
        raise ConfigError(f"--devices is {devices}; it must be at least 1.")
    outer = _outer()
    if devices == 1 and outer is None:
        yield ALONE, own_device()
        return
    if outer is not None and devices not in (1, math.prod(outer)):
        raise ConfigError(f"--devices is {devices}, and the launcher started {math.prod(outer)} processes. Leave --devices out.")
    with _quiet():
        fabric = _fabric(*(outer or (devices, 1)))
    launcher = fabric.strategy.launcher
    with watched(lambda: getattr(launcher, "procs", []), parent=outer is None and "LOCAL_RANK" in os.environ):
        try:
            with _quiet():
                fabric.launch()
            yield Ranks(fabric.global_rank, fabric.world_size, wait), fabric.device
        finally:
            _end()


def own_device() -> torch.device:
    """Where a process that is alone computes."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _outer() -> tuple[int, int] | None:
    """Processes a node and nodes, where torchrun or SLURM started this process among others; else None."""
    if not {"TORCHELASTIC_RUN_ID", "SLURM_NTASKS"} & set(os.environ):
        return None  # without importing Lightning, which takes seconds

    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    if TorchElasticEnvironment.detect():
        local = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
        return local, int(os.environ["WORLD_SIZE"]) // local
    if SLURMEnvironment.detect():
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return int(os.environ.get("SLURM_NTASKS", "1")) // nodes, nodes
    return None


def _fabric(devices: int, nodes: int) -> Any:
    import torch
    from lightning.fabric import Fabric
    from lightning.fabric.strategies.ddp import DDPStrategy

    gpus = torch.cuda.device_count()
    if 0 < gpus < devices:
        raise ConfigError(f"--devices is {devices}, and this machine has {gpus} GPUs. Give at most {gpus}.")
    # gloo even on GPUs: nothing but waiting is done through it, and that may take hours.
    strategy = DDPStrategy(process_group_backend="gloo", timeout=_LONGEST_WAIT)
    return Fabric(accelerator="cuda" if gpus else "cpu", devices=devices, num_nodes=nodes, strategy=strategy)


def _end() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context without Lightning's banner."""
    logs = [logging.getLogger(name) for name in ("lightning.fabric", "lightning.pytorch")]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)
