#!/usr/bin/env python3
"""What splitting a model over ranks saves and costs: `fsdp` beside `ddp`, the same recipe, on the CPU with gloo.

    python3 benchmarks/split.py [--model smollm2] [--ranks 2] [--steps 4]

Every weight of SmolLM2-135M is trained against a copy of itself, in float32: each rank of ddp holds weights, reference, gradients
and the optimizer's state whole. Memory is the most a rank has resident from the second step on, without what it held before there
was a model; loading the model, which every rank does whole, and writing it, which one does, are left out. The C library is told to
give freed blocks back at once, since what it keeps for later would be counted too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import dpoframe_text
import torch
from lightning.pytorch.callbacks import Callback
from prepare import write_pairs

import dpoframe
from dpoframe.config import load_recipe
from dpoframe.planning.process import load_libraries, resident
from dpoframe.plugins import PluginHost
from dpoframe.testing import in_ranks
from dpoframe.train.fit import fit

MEBI = 2**20


class Meter(Callback):
    """Writes what a rank found to a file. As a plugin it adds itself to the run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.before = folder, 0
        self.ends: list[float] = []

    @dpoframe.hookimpl
    def dpoframe_callbacks(self) -> list[Callback]:
        """Itself."""
        return [self]

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """After the first step, which sets up what later steps use, the peak is forgotten."""
        self.ends.append(time.perf_counter())
        if len(self.ends) == 1:
            Path("/proc/self/clear_refs").write_text("5")
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        seconds = [after - before for before, after in itertools.pairwise(self.ends)]
        found = {"peak": int(peak.split()[1]) * 1024 - self.before, "seconds": statistics.median(seconds or [0.0])}
        (self.folder / f"rank-{trainer.global_rank}.json").write_text(json.dumps(found))


def train(folder: Path, pairs: Path, strategy: str, options: argparse.Namespace) -> tuple[int, float, list[float]]:
    """Most bytes of any rank, seconds a step, and the losses."""
    host, meter = PluginHost(entry_points=[]), Meter(folder)
    host.register(dpoframe_text, "text")
    host.register(meter, "meter")
    trainer = {"accelerator": "cpu", "devices": options.ranks, "strategy": strategy, "threads": 1, "batch_size": 4}
    trainer |= {"max_steps": options.steps, "lr": 1e-6, "save_every": 10 * options.steps}
    recipe = {
        "modality": {"name": "text", "model": options.model, "chat": "never", "max_length": 128},
        "data": {"name": "jsonl", "path": str(pairs)},
        "trainer": trainer,
        "plugins": ["meter"],
    }
    loaded = load_recipe(recipe, host=host)

    def rank() -> None:
        meter.before = resident()
        fit(loaded, folder / "run", host=host, progress=lambda *_: None)

    folder.mkdir()
    in_ranks(rank, options.ranks, longest=3600)
    found = [json.loads((folder / f"rank-{number}.json").read_text()) for number in range(options.ranks)]
    losses = [json.loads(line)["loss"] for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return max(one["peak"] for one in found), max(one["seconds"] for one in found), losses


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:  # read when a process starts
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "MALLOC_MMAP_THRESHOLD_": "262144"})
    torch.set_num_threads(1)
    load_libraries()
    with tempfile.TemporaryDirectory() as name:
        pairs = Path(name) / "pairs.jsonl"
        write_pairs(pairs, 64)
        rows = {strategy: train(Path(name) / strategy, pairs, strategy, options) for strategy in ("ddp", "fsdp")}
    print("| | MiB a rank | seconds a step |\n|---|---|---|")
    for strategy, (peak, seconds, _) in rows.items():
        print(f"| {strategy} | {peak / MEBI:.0f} | {seconds:.2f} |")
    off = max(abs(one - other) / abs(one) for one, other in zip(rows["ddp"][2], rows["fsdp"][2], strict=True))
    print(f"\nddp takes {rows['ddp'][0] / rows['fsdp'][0]:.2f} times the memory; losses differ by {off:.1e} at most, relative.")


if __name__ == "__main__":
    main()
