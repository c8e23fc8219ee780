"""Processes of a run that are gone: what torch says of them in its own words, in ours."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from torch.multiprocessing.spawn import ProcessExitedException

from dpoframe.errors import MachineError

WORKER = re.compile(r"DataLoader worker \(pid")
RANK = re.compile(r"Connection (closed by peer|reset by peer|refused)|Broken pipe|\[c10d\]|Socket (closed|Timeout)", re.IGNORECASE)
RESUME = "The run goes on from its last checkpoint with --resume"


@contextlib.contextmanager
def lost_processes_told(workers: int) -> Iterator[None]:
    """Context in which the loss of a rank or of one of `workers` data-loading processes is a `MachineError` with what to do."""
    try:
        yield
    except ProcessExitedException as error:
        raise MachineError(
            f"Rank {error.error_index} was ended from outside ({error.signal_name or f'exit code {error.exit_code}'}), most "
            f"likely because memory ran out. {RESUME}; a smaller trainer.tokens_per_batch takes less memory."
        ) from error
    except (ConnectionError, EOFError) as error:  # in the middle of a batch that it was sending
        if not workers:
            raise
        raise worker_lost(error) from error
    except RuntimeError as error:
        text = str(error)
        if WORKER.search(text):
            raise worker_lost(error) from error
        if RANK.search(text):
            raise MachineError(
                f"Another rank has ended or cannot be reached ({text.splitlines()[0][:200]}); it may have said why. {RESUME}."
            ) from error
        raise


def worker_lost(error: BaseException) -> MachineError:
    """What to say of a data-loading process that is gone."""
    told = (str(error) or type(error).__name__).splitlines()[0]
    return MachineError(
        f"A data-loading process was ended from outside ({told}), most likely because memory ran out. {RESUME}; fewer "
        "trainer.num_workers take less memory."
    )
