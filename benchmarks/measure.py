"""What both sides of the benchmark measure themselves with: CPU and wall time of steps, peak memory, first gradients."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import torch
from safetensors.torch import save_file


def resident() -> float:
    """Peak resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Meter:
    """Collects the steps of one process. Memory counts from `Meter()`, made when model and data are in memory."""

    def __init__(self) -> None:
        self.before = resident()
        self.cpu: list[float] = []
        self.wall: list[float] = []
        self.losses: list[float] = []
        self._open = (0.0, 0.0)

    def start_step(self) -> None:
        """The batch is there; computing starts."""
        self._open = (time.process_time(), time.perf_counter())

    def end_step(self) -> None:
        """The optimizer has stepped."""
        self.cpu.append(time.process_time() - self._open[0])
        self.wall.append(time.perf_counter() - self._open[1])

    def result(self) -> dict[str, object]:
        """Everything measured; the first step is left to the reader to drop as warm-up."""
        return {"cpu": self.cpu, "wall": self.wall, "losses": self.losses, "memory": resident() - self.before}


def gradients(model: torch.nn.Module, file: Path) -> None:
    """Writes the gradients of all parameters, named as in the plain transformers model."""
    found = {
        name.removeprefix("policy.").removeprefix("module."): parameter.grad.detach().clone().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    save_file(found, str(file))
