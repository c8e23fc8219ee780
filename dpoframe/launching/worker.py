"""What each of Ray's workers does: it trains as the rank that torchrun would have made of it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
import traceback
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from dpoframe.config.recipe import Recipe
from dpoframe.config.secrets import scrubbed
from dpoframe.errors import ConfigError, DpoframeError
from dpoframe.launching.job import Job, RayRun, WorkerError
from dpoframe.train.folder import RunFolder
from dpoframe.train.progress import Told

# Lightning, and dpoframe before Lightning, know the ranks of torchrun by this variable; Ray sets all the others.
TORCHRUN = "TORCHELASTIC_RUN_ID"
TOLD_EVERY = 0.5
"""Seconds between two notes of progress."""
PATIENCE = 60.0
"""Seconds in which a process of the try before must have ended."""


@dataclass(frozen=True)
class Beginning:
    """How a try starts, decided by the first rank for all: whether there is anything to do, and whether a run goes on."""

    to_do: bool
    resume: bool
    finished: bool


def work(job: Job, board: Any) -> None:
    """Trains one rank's part of a job. Ray calls it in a process of its own that knows its rank."""
    import ray

    first = int(os.environ["RANK"]) == 0
    os.environ[TORCHRUN] = "ray"
    warnings.showwarning = lambda message, *rest: _say(message)
    try:
        begun = _begun(job, board, first)
        if not begun.to_do or (begun.finished and not first):
            return
        if first:
            threading.Thread(target=_listen, args=(board,), daemon=True).start()
        done = _train(job, begun, teller(board))
        if first:
            ray.get(board.conclude.remote(done))
    except BaseException as error:
        told = WorkerError.of(error)
        ray.get(board.fail.remote(told))
        text = scrubbed("".join(traceback.format_exception(error)))
        if isinstance(error, DpoframeError):  # the command tells of it; of any other error Ray shows the traceback
            logging.getLogger("ray.train").setLevel(logging.CRITICAL)
            text = told.message
        raise RuntimeError(text) from None


def _say(message: object) -> None:
    """A warning as one line; Ray passes on what a worker writes."""
    sys.stderr.write(f"warning: {scrubbed(str(message))}\n")


def _begun(job: Job, board: Any, first: bool) -> Beginning:
    import ray
    from ray.train.collective import broadcast_from_rank_zero

    begun = None
    if first:
        tries, to_do = ray.get(board.begin.remote())
        folder = RunFolder(job.folder)
        if tries > 1:
            await_claim(folder.path)
        resume = job.resume or (tries > 1 and folder.recipe.is_file())
        begun = Beginning(to_do, resume, resume and folder.finished)
    found: Beginning = broadcast_from_rank_zero(begun)
    return found


def await_claim(folder: Path, patience: float = PATIENCE) -> None:
    """Returns when no process of the try before holds the run folder: the system drops its claim when it has ended."""
    from dpoframe.train.claim import claimed

    until = time.monotonic() + patience
    while folder.is_dir() and time.monotonic() < until:
        with contextlib.suppress(ConfigError), claimed(folder):
            return
        time.sleep(0.2)


def _train(job: Job, begun: Beginning, told: Told) -> RayRun:
    """Trains, or makes up for what lacks where the training was finished when the try before ended."""
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    from dpoframe.align import align
    from dpoframe.harness import report

    cast(Any, rank_zero_only).rank = int(os.environ["RANK"])  # Lightning may have been imported before there was one
    recipe, folder = in_ranks(job.load()), RunFolder(job.folder)
    if begun.finished and not recipe.evaluate:
        report(folder.path)
        rows = [row for row in folder.rows() if "stage" not in row]
        return RayRun(folder.path, rows[-1]["step"] + 1 if rows else 0, rows[-1] if rows else {})
    done = align(recipe, folder.path, resume=begun.resume, allow_changes=job.allow_changes, progress=told)
    return RayRun(done.folder, done.steps, dict(done.final), done.fit.status, done.exit_code)


def in_ranks(recipe: Recipe) -> Recipe:
    """The recipe for as many devices and machines as Ray has given.

    Raises:
        ConfigError: machines have different numbers of workers, which Lightning cannot count.
    """
    here, all_of_them = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if all_of_them % here:
        raise ConfigError(
            f"Ray has put {here} of {all_of_them} workers on one machine, and another number on the others. Give --workers as a "
            "multiple of the machines, and --cpus-per-worker or --gpus-per-worker such that each takes the same share."
        )
    return replace(recipe, trainer=replace(recipe.trainer, devices=here, num_nodes=all_of_them // here))


def teller(board: Any) -> Told:
    """Notes progress on the board, and waits for nothing."""
    last = [0.0]

    def told(stage: str, done: int, total: int) -> None:
        if done >= total or time.monotonic() - last[0] > TOLD_EVERY:
            last[0] = time.monotonic()
            board.tell.remote(stage, done, total)

    return told


def _listen(board: Any) -> None:
    """Waits for the request to end. Ray runs the training in a thread, where no signal arrives."""
    import ray

    from dpoframe.train.interruption import ask_to_end

    with contextlib.suppress(Exception):  # the cluster ends
        ask_to_end(ray.get(board.interruption.remote()))
