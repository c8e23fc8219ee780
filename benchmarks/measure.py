"""What both sides of the benchmark measure themselves with: CPU and wall time of steps, peak memory, first gradients."""

from __future__ import annotations

import itertools
import resource
import time
from pathlib import Path

import torch
from safetensors.torch import save_file


def resident() -> float:
    """Peak resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Meter:
    """Collects the steps of one process. Memory counts from `Meter()`, made when model and data are in memory.

    A step lasts from the end of the one before to its own end, so fetching a batch and logging count. The first is dropped.
    """

    def __init__(self) -> None:
        self.before = resident()
        self.ends: list[tuple[float, float]] = []
        self.losses: list[float] = []

    def end_step(self) -> None:
        """The optimizer has stepped."""
        self.ends.append((time.process_time(), time.perf_counter()))

    def result(self) -> dict[str, object]:
        """CPU and wall seconds of each step but the first, losses of all steps, peak MiB above the start."""
        spans = [(after[0] - before[0], after[1] - before[1]) for before, after in itertools.pairwise(self.ends)]
        return {
            "cpu": [span[0] for span in spans],
            "wall": [span[1] for span in spans],
            "losses": self.losses,
            "memory": resident() - self.before,
        }


def gradients(named: dict[str, torch.nn.Parameter], file: Path) -> None:
    """Writes the gradients of parameters, named as in the plain transformers model."""
    save_file({name: one.grad.detach().clone().contiguous() for name, one in named.items() if one.grad is not None}, str(file))
