"""Ranks that torchrun or SLURM started, before Lightning has made a process group of them."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch.distributed.rendezvous import rendezvous

from dpoframe.errors import MachineError

_LONGEST_WAIT = timedelta(days=7)
_POLL = 0.1

# The first rank's holds the server that the others ask; Lightning's process group uses the same one later.
_store: list[Any] = []
_calls = itertools.count()


def outer_ranks() -> tuple[int, int]:
    """This process's number among those that torchrun or SLURM started, and their count; 0 and 1 where none did."""
    for kind in (TorchElasticEnvironment, SLURMEnvironment):
        if kind.detect():
            found = kind()
            os.environ.setdefault("MASTER_ADDR", found.main_address)
            os.environ.setdefault("MASTER_PORT", str(found.main_port))
            return found.global_rank(), found.world_size()
    return 0, 1


def wait(rank: int, world: int) -> None:
    """Returns when all ranks are here. No process group: Lightning makes its own later, with the backend of the device.

    It asks again and again, because a call that blocks would not let Ctrl-C through.

    Raises:
        MachineError: the first rank has ended, and so never comes here.
    """
    store, name = _store_of(rank, world), f"dpoframe/prepared/{next(_calls)}"
    with _lost_told("examples were prepared"):
        if store.add(f"{name}/count", 1) == world:
            store.set(f"{name}/all", "1")
        _wait_for(store, f"{name}/all")


def first_says(find: Callable[[], str]) -> str:
    """What `find` gives on the first rank, on all of them; the others do not call it.

    Ranks that look for themselves may find different things, on a disk that not all see alike at the same time.

    Raises:
        MachineError: the first rank has ended without saying.
    """
    rank, world = outer_ranks()
    if world == 1:
        return find()
    store, name = _store_of(rank, world), f"dpoframe/said/{next(_calls)}"
    if rank == 0:
        found = find()
        store.set(name, found)
        return found
    with _lost_told("it looked for a checkpoint"):
        _wait_for(store, name)
        said: bytes = store.get(name)
    return said.decode()


def _store_of(rank: int, world: int) -> Any:
    if not _store:
        _store.append(next(iter(rendezvous("env://", rank, world, timeout=_LONGEST_WAIT)))[0])
    return _store[0]


def _wait_for(store: Any, name: str) -> None:
    while not store.check([name]):
        time.sleep(_POLL)


@contextlib.contextmanager
def _lost_told(when: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # a closed connection
        raise MachineError(f"Another rank has ended while {when}, and this one ends with it. It said why.") from error
