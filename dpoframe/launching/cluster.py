"""The Ray cluster to work on: one that is there, or one on this machine for as long as the work takes."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dpoframe.errors import ConfigError, Fault, MachineError, MissingExtraError

INSTALL = 'pip install "dpoframe[ray]"'
# Nothing but numbers goes through Ray's object store; its default is a third of the memory.
STORE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Workers:
    """The processes that share the work.

    Attributes:
        count: How many.
        cpus: Processors that each one holds.
        gpus: GPUs that each one holds, 0 or 1; None for 1 where the cluster has any.
    """

    count: int = 2
    cpus: int = 1
    gpus: int | None = None

    def require(self) -> None:
        """Raises `ConfigError` where there can be no such processes."""
        faults = []
        if self.count < 1:
            faults.append(Fault("--workers", f"is {self.count}.", "Give 1 or more."))
        if self.cpus < 1:
            faults.append(Fault("--cpus-per-worker", f"is {self.cpus}.", "Give 1 or more."))
        if self.gpus not in (None, 0, 1):
            faults.append(Fault("--gpus-per-worker", f"is {self.gpus}.", "A worker is one rank: give 0 or 1, and more --workers."))
        if faults:
            raise ConfigError("There can be no such workers:", faults)

    def resources(self, found: dict[str, float]) -> dict[str, float]:
        """What each worker holds, where the cluster has `found`."""
        gpus = (1 if found.get("GPU", 0) else 0) if self.gpus is None else self.gpus
        return {"CPU": float(self.cpus), **({"GPU": float(gpus)} if gpus else {})}


def require_retries(retries: int) -> None:
    """Raises `ConfigError` where lost workers cannot be started again so often."""
    if retries < -1:
        raise ConfigError(f"--retries is {retries}. Give 0 or more, or -1 for as often as it takes.")


def require_ray() -> None:
    """Raises `MissingExtraError` where Ray, or a part of it that is used here, is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise MissingExtraError("dpoframe ray", "ray", INSTALL)
    try:
        import ray.data
        import ray.train.torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("dpoframe ray", f"ray[train,data] ({error.name or error})", INSTALL) from error


@contextlib.contextmanager
def connected(address: str | None, workers: Workers) -> Iterator[dict[str, float]]:
    """Context with a connection to Ray; gives what each worker holds. A connection that is there already is used and kept.

    Args:
        address: Of the cluster, as `ray.init` has it; None for `RAY_ADDRESS`, and without that for one on this machine, which
            ends with the context.
        workers: What they need: on this machine it must be there, while a cluster may grow.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: this machine has less than the workers need.
        MachineError: the cluster cannot be reached.
    """
    workers.require()
    require_ray()
    import ray

    if ray.is_initialized():
        yield workers.resources(ray.cluster_resources())
        return
    place = address or os.environ.get("RAY_ADDRESS") or "local"
    try:
        _connect(place)
        found = ray.cluster_resources()
        if place == "local":
            _require_room(workers, found)
        yield workers.resources(found)
    finally:
        ray.shutdown()


def _connect(place: str) -> None:
    """Calls `ray.init`, and gives SIGTERM back to whom it belonged."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is started here reports to nobody
    if place == "local":
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # nobody takes this machine away with notice
    own = {"include_dashboard": False, "object_store_memory": STORE_BYTES} if place == "local" else {}
    in_main = threading.current_thread() is threading.main_thread()
    before: Any = signal.getsignal(signal.SIGTERM) if in_main else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's, on what will change in Ray
            ray.init(address=place, logging_level=logging.ERROR, logging_config=ray.LoggingConfig(log_level="ERROR"), **own)
    except (ConnectionError, OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        told = str(error).strip().splitlines()
        raise MachineError(
            f"The Ray cluster {place!r} cannot be reached ({told[0] if told else type(error).__name__}). "
            "Give its address with --address, or start it with: ray start --head"
        ) from error
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _require_room(workers: Workers, found: dict[str, float]) -> None:
    """Raises `ConfigError` where a cluster of this machine alone has too little: it would wait for ever."""
    words = {"CPU": ("processors", "--cpus-per-worker"), "GPU": ("GPUs", "--gpus-per-worker")}
    faults = []
    for name, each in workers.resources(found).items():
        if each * workers.count > found.get(name, 0):
            told = f"this machine has {found.get(name, 0):g} {words[name][0]}, and {workers.count} workers need {each:g} each."
            faults.append(Fault("--workers", told, f"Give fewer, a smaller {words[name][1]}, or a cluster with --address."))
    if faults:
        raise ConfigError("The workers cannot be started:", faults)
