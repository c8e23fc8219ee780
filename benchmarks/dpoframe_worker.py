"""One run of dpoframe on prepared weights and pairs, through its ordinary `fit`. Prints one JSON line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from measure import Meter, gradients

import dpoframe


class StepMeter(Callback):
    """Marks the end of each optimizer step, and keeps the first step's gradients and the losses."""

    def __init__(self, meter: Meter, keep: Path) -> None:
        self.meter, self.keep = meter, keep

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Gradients are complete."""
        if not self.meter.ends:
            gradients(dict(pl_module.policy.named_parameters()), self.keep)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """The optimizer has stepped."""
        self.meter.losses.append(float(outputs["loss"]))
        self.meter.end_step()


def trainer(settings: dict[str, Any], threads: int) -> dict[str, Any]:
    """The recipe's `trainer` section: a plain loop on the CPU, as the peers run theirs."""
    return {
        "max_steps": settings["steps"],
        "batch_size": settings["batch_size"],
        "lr": settings["lr"],
        "schedule": "constant",
        "warmup": 0,
        "gradient_clip_val": 1e5,
        "save_every": settings["steps"],
        "threads": threads,
        "accelerator": "cpu",
        "devices": 1,
    }


def recipe(options: argparse.Namespace, settings: dict[str, Any]) -> dict[str, Any]:
    """The run as a recipe; everything that is not named here is the default."""
    return {
        "modality": {"name": "text", "model": str(options.work / "model"), "chat": "never", "max_length": settings["max_length"]},
        "data": {"name": "jsonl", "path": str(options.work / "pairs.jsonl")},
        "loss": {"name": "sigmoid", "beta": 0.1},
        "reference": {"kind": options.reference},
        "trainer": trainer(settings, options.threads) | {"bucket_by_length": settings["sorted"]},
        "plugins": ["meter"],
    }


def write_order(options: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Writes the pairs in the order in which dpoframe trains on them, for the peer."""
    from dpoframe.data.sampler import PairStream

    lines = (options.work / "pairs.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    pairs = [dpoframe.PreferencePair(row["prompt"], row["chosen"], row["rejected"], row["id"]) for row in rows]
    order = PairStream(pairs, settings["batch_size"], bucket=settings["sorted"]).order(0)
    (options.work / "ordered.jsonl").write_text("".join(lines[index] + "\n" for index in order))


def main() -> None:
    """Trains and prints the measurements."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--reference", choices=["copy", "cached"], default="copy")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--order", action="store_true", help="only write ordered.jsonl")
    options = parser.parse_args()
    settings = json.loads((options.work / "settings.json").read_text())
    if options.order:
        write_order(options, settings)
        return
    torch.set_num_threads(options.threads)
    os.environ["DPOFRAME_CACHE"] = str(options.work / "cache")

    from dpoframe.config import load_recipe
    from dpoframe.plugins import host
    from dpoframe.train.fit import fit

    name = "dpoframe-live" if options.reference == "copy" else "dpoframe-cached"
    meters: list[Meter] = []
    plugin: Any = ModuleType("meter")
    plugin.dpoframe_callbacks = dpoframe.hookimpl(lambda config: [StepMeter(meters[0], options.work / f"{name}.grads.safetensors")])
    host().register(plugin, "meter")
    loaded = load_recipe(recipe(options, settings))
    policy = loaded.modality.value.build()
    meters.append(Meter())
    fit(loaded, options.work / f"{name}-{os.getpid()}", build=lambda: policy)
    sys.stdout.write("\nRESULT " + json.dumps(meters[0].result()) + "\n")


if __name__ == "__main__":
    main()
