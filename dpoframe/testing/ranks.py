"""Runs a function in several processes that are the ranks of one run, as torchrun would start them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

LONGEST_REPORT = 8000
"""Characters of a traceback that are kept, the last ones: so many fit into a pipe that nobody reads."""


def in_ranks(function: Callable[[], Any], count: int = 2, *, env: Mapping[str, str] | None = None, longest: float = 300.0) -> None:
    """Calls `function` in `count` forked processes, on the CPU, with what torchrun tells each of them in its environment.

    What a rank has to say it writes to files. The strategies `ddp` and `fsdp` take these processes for their ranks.

    Args:
        function: Called without arguments; the rank is in `RANK`.
        count: Number of ranks.
        env: Further variables.
        longest: Seconds after which the ranks are ended.

    Raises:
        AssertionError: a rank raised, was ended, or took too long; with every rank's traceback. No process is left.
    """
    forking = multiprocessing.get_context("fork")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "TORCHELASTIC_RUN_ID": "ranks"}
    told |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "GROUP_RANK": "0", **(env or {})}
    reports = forking.SimpleQueue()
    ranks = [forking.Process(target=_rank, args=(function, number, told, reports), daemon=False) for number in range(count)]
    faults: list[str] = []
    for rank in ranks:
        rank.start()
    try:
        failed = _wait(ranks, longest, reports, faults)
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()
    _read(reports, faults)
    if failed or faults:
        codes = [rank.exitcode for rank in ranks]
        raise AssertionError("\n".join([f"the ranks ended with {codes}", *faults]))


def _wait(ranks: list[Any], longest: float, reports: Any, faults: list[str]) -> bool:
    """Until all have ended, or one has failed and the others had a while to follow; whether it went wrong."""
    end = time.monotonic() + longest
    while any(rank.is_alive() for rank in ranks) and time.monotonic() < end:
        if any(rank.exitcode for rank in ranks):
            end = min(end, time.monotonic() + 10)
        _read(reports, faults)  # a rank waits for room in the pipe
        time.sleep(0.02)
    return any(rank.exitcode != 0 for rank in ranks)


def _read(reports: Any, faults: list[str]) -> None:
    while not reports.empty():
        faults.append(reports.get())


def _rank(function: Callable[[], Any], number: int, told: Mapping[str, str], reports: Any) -> None:
    os.environ.update(told, RANK=str(number), LOCAL_RANK=str(number))
    import torch
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    torch.set_num_threads(1)
    rank_zero_only.rank = number  # type: ignore[attr-defined] # it was set in the process that was forked
    try:
        function()
    except BaseException:
        reports.put(f"rank {number}: {traceback.format_exc()[-LONGEST_REPORT:]}")
        os._exit(1)
    os._exit(0)
