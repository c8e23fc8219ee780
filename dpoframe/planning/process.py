"""What a process holds before it trains (Python, libraries, pairs), and what the machine has."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import sys
from pathlib import Path

# What a run has imported by its first step beside what a plan imports: Lightning's loops, and what optimizers and checkpoints
# of torch import when they are first used.
_LIBRARIES = ("lightning.pytorch", "dpoframe.train.fit", "torch._dynamo", "pyarrow.parquet", "safetensors.torch")
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def load_libraries() -> None:
    """Imports what a run imports."""
    for name in _LIBRARIES:
        importlib.import_module(name)


def resident() -> int:
    """Bytes of memory that this process holds now; the most it has held, where the system does not tell more; 0 on Windows."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "win32":
        return 0
    import resource

    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else 1024 * highest


def machine_memory() -> float:
    """Bytes that this machine has, or that the container may use where that is less; infinite where nobody tells."""
    known = [math.inf]
    with contextlib.suppress(AttributeError, ValueError, OSError):
        known.append(float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))
    for file in _LIMITS:
        with contextlib.suppress(OSError, ValueError):
            known.append(float(Path(file).read_text(encoding="ascii")))
    return min(known)
