"""How many threads are quickest on this machine now: on a busy one, two threads wait for each other and one is faster."""

from __future__ import annotations

import os
import time

_TRIES = 3
_ROWS, _WIDTH = 256, 1536


def quickest_threads(limit: int | None = None) -> int:
    """The thread count, up to `limit` (the cores this process may use), that multiplies matrices fastest.

    It takes about half a second on two cores, and leaves torch's setting as it was.
    """
    import torch

    cores = limit or _cores()
    counts = sorted({1, *(2**power for power in range(1, 8) if 2**power <= cores), cores})
    kept = torch.get_num_threads()
    times: dict[int, float] = {}
    try:
        for count in counts:
            times[count] = _seconds(count)
    finally:
        torch.set_num_threads(kept)
    return min(times, key=lambda count: times[count])


def _cores() -> int:
    """Cores this process may use."""
    cores: int = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores


def _seconds(threads: int) -> float:
    """Median time of a product of the size a small model makes."""
    import torch

    torch.set_num_threads(threads)
    left, right = torch.ones(_ROWS, _WIDTH), torch.ones(_WIDTH, _WIDTH)
    torch.mm(left, right)
    taken = []
    for _ in range(_TRIES):
        start = time.perf_counter()
        for _ in range(4):
            torch.mm(left, right)
        taken.append(time.perf_counter() - start)
    return sorted(taken)[_TRIES // 2]
