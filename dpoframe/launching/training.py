"""`train_on_ray`: the command's part in a run on Ray."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from dpoframe.config.recipe import Recipe
from dpoframe.config.secrets import scrubbed
from dpoframe.errors import MachineError
from dpoframe.harness import load_suite
from dpoframe.launching.board import Board, Notes
from dpoframe.launching.cluster import Workers, connected, require_ray, require_retries
from dpoframe.launching.job import Job, RayRun, WorkerError
from dpoframe.launching.watching import Shown, watched
from dpoframe.launching.worker import work
from dpoframe.plugins import host as installed
from dpoframe.train.changes import require_items
from dpoframe.train.folder import RunFolder

# The first rank evaluates while the others wait for it; a rank that dies is noticed otherwise.
LONGEST_WAIT = 24 * 3600
SCRATCH = ".ray"


def train_on_ray(
    recipe: Recipe,
    out: str | Path,
    *,
    workers: Workers | None = None,
    resume: bool = False,
    allow_changes: Collection[str] = (),
    retries: int = 3,
    address: str | None = None,
    progress: Shown | None = None,
) -> RayRun:
    """Aligns a model by a recipe on Ray's workers, one rank each. When one is lost, all are started again and go on.

    Args:
        recipe: What to do; its keys `trainer.devices` and `trainer.num_nodes` follow from the workers.
        out: The run folder, on storage that this process and all workers see under the same path.
        workers: The processes; two unless given.
        resume: Goes on with the run in `out`.
        allow_changes: As in `dpoframe.train.fit.fit`.
        retries: How often workers are started again; -1 for always. An error that would come again ends the run at once.
        address: As in `ray.init`; None for `RAY_ADDRESS`, and without that for a cluster on this machine alone.
        progress: Called as `progress(stage, done, total)` in place of the progress bar.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: the recipe, the folder or the workers cannot be used.
        WorkerError: what a worker said when it failed.
        MachineError: workers were lost more often than `retries`, or the cluster cannot be reached.
    """
    chosen, folder = workers or Workers(), RunFolder(Path(os.path.abspath(out)))  # noqa: PTH100 - a link stays one
    chosen.require()
    require_retries(retries)
    require_ray()
    require_startable(recipe, folder, resume, allow_changes)
    job = Job.of(recipe, folder.path, resume, tuple(allow_changes))
    with scratch(folder), connected(address, chosen) as each:
        import ray

        board = ray.remote(num_cpus=0)(Board).remote()
        ended = watched(trainer(job, board, chosen, each, retries).fit, board, progress)
        return outcome(ray.get(board.read.remote()), ended, retries, folder)


def require_startable(recipe: Recipe, folder: RunFolder, resume: bool, allow_changes: Collection[str]) -> None:
    """Raises, before Ray is started, what the workers would raise."""
    for name in recipe.evaluate:
        load_suite(name, installed())
    if not resume:
        folder.require_place()
        folder.require_new()
        return
    require_items(allow_changes, recipe)
    check = folder.require_recipe if recipe.evaluate else folder.require_resumable
    check(recipe, allow_changes)


@contextlib.contextmanager
def scratch(folder: RunFolder) -> Iterator[None]:
    """Context in which Ray may leave its own notes in the run folder; what nobody wrote a run into goes with them."""
    absent = [path for path in (folder.path, *folder.path.parents) if not path.exists()]
    with folder.claimed():
        pass  # as a worker will: the folder is made, and nobody else writes to it
    try:
        yield
    finally:
        shutil.rmtree(folder.path / SCRATCH, ignore_errors=True)
        for path in absent:
            with contextlib.suppress(OSError):
                path.rmdir()


def trainer(job: Job, board: Any, workers: Workers, each: dict[str, float], retries: int) -> Any:
    """Ray's trainer of a job."""
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    def loop() -> None:
        work(job, board)

    return TorchTrainer(
        loop,
        scaling_config=ScalingConfig(num_workers=workers.count, use_gpu="GPU" in each, resources_per_worker=each),
        torch_config=TorchConfig(timeout_s=LONGEST_WAIT),
        run_config=RunConfig(
            name=SCRATCH,
            storage_path=str(job.folder),
            failure_config=FailureConfig(max_failures=retries),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def outcome(notes: Notes, ended: BaseException | None, retries: int, folder: RunFolder) -> RayRun:
    """The result of a run; raises what went wrong where it has none."""
    if notes.result is not None and notes.result.status == "finished" and not folder.finished:
        raise MachineError(
            f"The run was finished, but this machine does not see it in {folder.path}. Give a folder with --out that is on "
            "storage which all machines share."
        )
    if notes.result is not None:
        return notes.result
    if notes.error is not None and notes.error.final:
        raise notes.error
    left = folder.recipe.is_file()
    further = "It goes on from its last checkpoint with --resume." if left else "Mend that, and start it again."
    lines = scrubbed(str(notes.error or ended)).strip().splitlines() or [""]
    message = f"The run was started {notes.tries} times, and --retries is {retries}. The last error: {lines[0]}\n{further}"
    if notes.error is not None:
        raise WorkerError(notes.error.kind, message, notes.error.exit_code)
    raise MachineError(message)
