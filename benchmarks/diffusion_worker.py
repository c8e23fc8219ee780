"""One run of dpoframe on a prepared pipeline and pairs of pictures, through its ordinary `fit`. Prints one JSON line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from dpoframe_worker import StepMeter, trainer
from measure import Meter
from safetensors.torch import save_file

import dpoframe


def rows(work: Path) -> list[dict[str, str]]:
    """The prepared pairs."""
    return [json.loads(line) for line in (work / "pairs.jsonl").read_text().splitlines()]


def pairs(work: Path) -> Iterator[dpoframe.PreferencePair]:
    """The prepared pairs, as a data set yields them."""
    for row in rows(work):
        chosen, rejected = (dpoframe.Media("image", path=work / row[name]) for name in ("chosen", "rejected"))
        yield dpoframe.PreferencePair(row["prompt"], chosen, rejected, row["id"])


def recipe(options: argparse.Namespace, settings: dict[str, Any]) -> dict[str, Any]:
    """The run as a recipe; everything that is not named here is the default."""
    return {
        "modality": {
            "name": "diffusion",
            "model": str(options.work / "pipeline"),
            "lora": {"r": settings["rank"]},
            "framing": {"resolution": settings["side"]},
        },
        "data": {"name": "prepared", "work": str(options.work)},
        "loss": {"name": "sigmoid", "beta": settings["beta"]},
        "reference": {"kind": options.reference},
        "trainer": trainer(settings, options.threads),
        "plugins": ["prepared"],
    }


def write_draws(work: Path, modality: Any, settings: dict[str, Any]) -> None:
    """Writes the pairs in the order in which dpoframe trains on them, with their noise and times, and the adapters' start."""
    from dpoframe_diffusion.draws import draw

    from dpoframe.data.batching import StepDataset
    from dpoframe.data.sampler import PairStream

    known = {row["id"]: row for row in rows(work)}
    stream = PairStream(list(pairs(work)), settings["batch_size"])
    dataset = StepDataset(stream, modality)
    shape = torch.Size((4, settings["side"] // 8, settings["side"] // 8))
    ordered, tensors = [], {}
    for entry in dataset.entries(range(settings["steps"])):
        drawn = draw(entry.chosen.seed, shape, modality.location.process, modality.timesteps)
        tensors |= {f"{len(ordered)}.{name}": value for name, value in drawn._asdict().items()}
        ordered.append(known[entry.pair.id])
    (work / "ordered.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ordered))
    save_file(tensors, str(work / "draws.safetensors"))
    start = {name: one.detach() for name, one in modality.build().named_parameters() if one.requires_grad}
    save_file(start, str(work / "adapters.safetensors"))


def main() -> None:
    """Trains and prints the measurements."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--reference", choices=["adapter", "cached"], default="adapter")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--draws", action="store_true", help="only write ordered.jsonl, draws.safetensors, adapters.safetensors")
    options = parser.parse_args()
    settings = json.loads((options.work / "settings.json").read_text())
    torch.set_num_threads(options.threads)
    os.environ["DPOFRAME_CACHE"] = str(options.work / "cache")

    from dpoframe.config import load_recipe
    from dpoframe.plugins import host
    from dpoframe.train.fit import fit

    name = "dpoframe-live" if options.reference == "adapter" else "dpoframe-cached"
    meters: list[Meter] = []
    plugin: Any = ModuleType("prepared")
    plugin.dpoframe_datasets = dpoframe.hookimpl(lambda: {"prepared": lambda work: pairs(Path(work))})
    plugin.dpoframe_callbacks = dpoframe.hookimpl(lambda config: [StepMeter(meters[0], options.work / f"{name}.grads.safetensors")])
    host().register(plugin, "prepared")
    loaded = load_recipe(recipe(options, settings))
    modality = loaded.modality.value
    if options.draws:
        write_draws(options.work, modality, settings)
        return
    policy = modality.build()
    meters.append(Meter())
    fit(loaded, options.work / f"{name}-{os.getpid()}", build=lambda: policy)
    sys.stdout.write("\nRESULT " + json.dumps(meters[0].result()) + "\n")


if __name__ == "__main__":
    main()
