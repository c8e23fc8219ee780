"""`reference_on_ray`: reference scores by Ray Data, into the store that `reference: {kind: cached}` reads."""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dpoframe.config.recipe import Recipe
from dpoframe.config.secrets import scrubbed
from dpoframe.errors import DpoframeError, MachineError, TrainingError
from dpoframe.launching.board import Board
from dpoframe.launching.cluster import Workers, connected, require_ray, require_retries
from dpoframe.launching.job import Job, WorkerError
from dpoframe.launching.watching import Shown, shown
from dpoframe.plugins import host as installed
from dpoframe.train.cache import ScoreStore
from dpoframe.train.precompute import PAIRS_A_PART, Portion, missing_work, portions, score_portions
from dpoframe.train.precomputing import CacheReport, as_cached, cached_reference, reference_data

# Blocks a worker: enough that those who are done early take work over, few enough that files of scores stay large.
BLOCKS = 4


def reference_on_ray(
    recipe: Recipe,
    *,
    workers: Workers | None = None,
    retries: int = 3,
    address: str | None = None,
    progress: Shown | None = None,
) -> CacheReport:
    """Scores every pair of a recipe by its reference, as `precompute_reference` does, on several processes.

    The scores are those of one process, bit by bit on alike processors: what is scored at once is the same. What a lost worker
    had in hand another does again.

    Args:
        recipe: Its reference kind does not matter: it is taken as `cached`.
        workers: The processes, each with the whole model; two unless given.
        retries: How often lost workers are started again, all of them together; -1 for always.
        address: As in `ray.init`; None for `RAY_ADDRESS`, and without that for a cluster on this machine alone.
        progress: Called as `progress(stage, done, total)` in place of the progress bar.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: the recipe or the workers cannot be used.
        DataError: no pair can be used.
        WorkerError: what a worker said when it failed.
        MachineError: a worker was lost too often, the cluster cannot be reached, or its workers write where this process does
            not see it. What was scored stays, and is not scored again.
    """
    chosen = workers or Workers()
    chosen.require()
    require_retries(retries)
    require_ray()
    todo = all_portions(as_cached(recipe))
    pairs = sum(portion.pairs for portion in todo)
    blocks = min(len(todo), max(BLOCKS * chosen.count, -(-pairs // PAIRS_A_PART)))
    job, computed, folders = Job.of(recipe, Path()), 0, set[str]()
    with connected(address, chosen) as each, shown(progress) as show:
        done = 0
        for row in _scored(job, blocks, min(chosen.count, blocks), each, retries):
            done, computed = done + int(row["pairs"]), computed + int(row["computed"])
            folders.add(str(row["folder"]))
            show("reference scores", done, pairs)
    (folder,) = folders
    return CacheReport(Path(folder), computed, _count(Path(folder), todo))


def all_portions(recipe: Recipe) -> list[Portion]:
    """Everything there is to score, in the portions of one process that finds nothing scored yet; no weights are loaded."""
    modality, _, data = reference_data(recipe, installed())
    return portions(missing_work(data.datasets(), ScoreStore(Path())), modality)


class Scorer:
    """An actor: builds the model once, and scores block after block. A block is every `blocks`-th portion.

    Args:
        job: What is scored.
        blocks: How many blocks there are.
        board: Told of every start, and of errors.
        starts: How many actors may begin, those included that take a lost one's place; -1 for any number, as Ray has it.
    """

    def __init__(self, job: Job, blocks: int, board: Any, starts: int) -> None:
        self.job, self.blocks, self.board, self.starts = job, blocks, board, starts
        self.built = False

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Scores the blocks whose numbers are in `batch["id"]`; tells of each its pairs, how many were new, and the store."""
        with self.told():
            if not self.built:
                self.require_try()
                self.build()
            found = [self.score(int(number)) for number in batch["id"]]
        folder = str(self.store.folder)
        return {"pairs": [pairs for pairs, _ in found], "computed": [new for _, new in found], "folder": [folder] * len(found)}

    def require_try(self) -> None:
        """Raises `MachineError` where too many were lost. Each that is lost is one more that begins."""
        import ray

        begun, _ = ray.get(self.board.begin.remote())
        if 0 <= self.starts < begun:
            raise MachineError(
                "Workers were lost more often than --retries says, most likely because memory ran out. What was scored stays: the "
                "same command goes on."
            )

    def build(self) -> None:
        """Makes the model, and finds what there is to score."""
        from dpoframe.train.lightning_trainer import make_trainer, quiet

        recipe, host = as_cached(self.job.load()), installed()
        self.modality, loss, data = reference_data(recipe, host)
        self.todo = portions(missing_work(data.datasets(), ScoreStore(Path())), self.modality)
        reference = cached_reference(recipe, self.modality, loss, host)
        with quiet():
            trainer = make_trainer(recipe.trainer, 1, False, [])
        self.store, self.precision = reference.store, trainer.precision_plugin
        self.model = self.precision.convert_module(reference.model).to(trainer.strategy.root_device)
        self.built = True

    def score(self, block: int) -> tuple[int, int]:
        """Pairs of a block, and how many of them were not in the store, where others may have put them meanwhile."""
        mine, self.store = self.todo[block :: self.blocks], self.store.read()
        new = [portion for portion in mine if self.store.missing(portion.keys)]
        precision, convert = self.precision.forward_context, self.precision.convert_input
        score_portions(self.modality, self.model, new, self.store, precision=precision, convert=convert)
        return sum(portion.pairs for portion in mine), sum(portion.pairs for portion in new)

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Context in which an error is put on the board; of one that nobody foresaw the traceback is shown."""
        import ray

        try:
            yield
        except Exception as error:
            told = WorkerError.of(error)
            ray.get(self.board.fail.remote(told))
            if not isinstance(error, DpoframeError):
                sys.stderr.write(scrubbed("".join(traceback.format_exception(error))))
            raise RuntimeError(told.message) from None


def _scored(job: Job, blocks: int, workers: int, each: dict[str, float], retries: int) -> Iterator[Any]:
    """A row of each block, as they come."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what goes wrong is told below
    ray.data.DataContext.get_current().enable_progress_bars = False
    board = ray.remote(num_cpus=0)(Board).remote()
    # Made here and not by a task of Ray, which would need a processor that the workers hold.
    numbers = ray.data.from_items([{"id": number} for number in range(blocks)], override_num_blocks=blocks)
    rows = numbers.map_batches(
        Scorer,
        fn_constructor_args=(job, blocks, board, retries if retries < 0 else workers + retries),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=each["CPU"],
        num_gpus=each.get("GPU", 0),
    )
    try:
        yield from rows.iter_rows()
    except Exception as error:
        if (told := ray.get(board.read.remote()).error) is not None:
            raise told from None
        lines = scrubbed(str(error)).strip().splitlines() or [type(error).__name__]
        raise TrainingError(f"Ray could not score the pairs: {lines[0]}") from error


def _count(folder: Path, todo: list[Portion]) -> int:
    """Scores in the store; MachineError where it lacks some of those that were made."""
    store = ScoreStore(folder).read()
    if any(store.missing(portion.keys) for portion in todo):
        raise MachineError(
            f"The scores were made, but this machine does not see them all in {folder}. Set reference.folder, or DPOFRAME_CACHE, "
            "to a folder on storage that all machines share."
        )
    return len(store.rows)
