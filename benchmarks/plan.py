#!/usr/bin/env python3
"""How near `dpoframe plan` comes: its estimate of a run beside the peak memory and the CPU time of the run itself.

    python3 benchmarks/plan.py [--only NAME ...]

Each recipe is planned in one fresh process and trained in another, on the CPU, with one thread. Pictures are encoded beforehand.
The start is what the run held before there was a model (Python, libraries, pairs); both sides are told above it as well.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MEBI = 2**20
TRAINER = {"threads": 1, "accelerator": "cpu", "devices": 1}
LLAMA = {"name": "text", "model": "llama", "chat": "never", "max_length": 1024}
PAIRS = {"name": "jsonl", "path": "pairs.jsonl"}
SD = {"name": "diffusion", "model": "sd", "lora": {"r": 8}, "framing": {"resolution": 256}}
CASES: dict[str, dict[str, Any]] = {
    "SmolLM2-135M, LoRA, adapter": {"recipe": "quickstart", "steps": 8},
    "Llama 22.7M, full, copy": {
        "recipe": {"modality": LLAMA, "data": PAIRS, "reference": "copy", "trainer": {**TRAINER, "batch_size": 8}},
        "steps": 6,
    },
    "Llama 22.7M, full, cached, 16 pairs in micro-batches": {
        "recipe": {
            "modality": LLAMA,
            "data": {**PAIRS, "validation": 8},
            "reference": "cached",
            "trainer": {**TRAINER, "batch_size": 16, "tokens_per_batch": 4096},
        },
        "steps": 4,
    },
    "SD-shaped 35M, LoRA, adapter": {
        "recipe": {
            "modality": SD,
            "data": {"name": "image_rows", "path": "photographs/pairs.jsonl"},
            "loss": {"name": "sigmoid", "beta": 5000},
            "reference": "adapter",
            "trainer": {**TRAINER, "batch_size": 4},
        },
        "steps": 4,
    },
    "digits-bold, LoRA, adapter": {"recipe": "digits-bold", "steps": 10, "change": ["modality.model=digits"]},
}


def prepare(work: Path) -> None:
    """Writes the models and the pairs: all weights are random, which changes no size."""
    import torch
    from diffusion_prepare import write_pairs as write_pictures
    from diffusion_prepare import write_pipeline
    from dpoframe_diffusion.example.base_settings import Sizes
    from dpoframe_diffusion.example.digits import caption
    from dpoframe_diffusion.example.networks import untrained
    from prepare import write_model, write_pairs

    write_model(work / "llama")
    write_pairs(work / "pairs.jsonl", 128)
    write_pipeline(work / "sd")
    (work / "photographs").mkdir()
    write_pictures(work / "photographs", 16, 256)
    torch.manual_seed(0)
    untrained([caption(label) for label in range(10)], Sizes()).save_pretrained(str(work / "digits"))


def train(recipe: str, change: list[str]) -> None:
    """Trains in this process and prints its peak memory, what it held before there was a model, and CPU seconds a step."""
    import time
    from types import ModuleType

    from lightning.pytorch.callbacks import Callback
    from measure import resident

    import dpoframe
    from dpoframe.config import load_recipe
    from dpoframe.planning.process import resident as held
    from dpoframe.plugins import host
    from dpoframe.train.fit import fit

    ends: list[float] = []
    start: list[float] = []

    class Clock(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            ends.append(time.process_time())

    plugin: Any = ModuleType("clock")
    plugin.dpoframe_callbacks = dpoframe.hookimpl(lambda config: [Clock()])
    host().register(plugin, "clock")
    loaded = load_recipe(recipe, [*change, "plugins=[clock]", "evaluate=[]"])

    def build() -> Any:
        start.append(held() / MEBI)
        return loaded.modality.value.build()

    with tempfile.TemporaryDirectory() as folder:
        fit(loaded, Path(folder) / "run", build=build, progress=lambda *_: None)
    steps = [after - before for before, after in itertools.pairwise(ends)]
    found = {"peak": resident(), "start": start[0], "cpu": statistics.median(steps)}
    sys.stdout.write("\nRESULT " + json.dumps(found) + "\n")


def process(work: Path, *words: str) -> str:
    """What a fresh process prints on stdout."""
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "DPOFRAME_CACHE": str(work / "cache")}
    command = [sys.executable, *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=work, env={**os.environ, **quiet})
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed with exit code {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def compare(work: Path, name: str) -> list[str]:
    """The row of one case."""
    case, file = CASES[name], work / "recipe.yaml"
    recipe = case["recipe"]
    if not isinstance(recipe, str):
        file.write_text(json.dumps(recipe))
        recipe = str(file)
    change = [f"trainer.max_steps={case['steps']}", *(f"trainer.{key}={value}" for key, value in TRAINER.items())]
    change += case.get("change", [])
    own = str(Path(__file__).resolve())
    if "digits" in name or "SD" in name:  # encodes the pictures
        process(work, own, "--train", recipe, *change)
    planned = json.loads(
        process(work, "-m", "dpoframe", "plan", recipe, *(word for one in change for word in ("--set", one)), "--json")
    )
    out = process(work, own, "--train", recipe, *change)
    found = json.loads(next(line for line in out.splitlines() if line.startswith("RESULT ")).removeprefix("RESULT "))
    whole = sum(planned["memory"]["parts"].values()) / MEBI
    above, taken = whole - found["start"], found["peak"] - found["start"]
    seconds = planned["seconds_per_step"]
    return [
        name,
        *(f"{whole:.0f}", f"{found['peak']:.0f}", f"{whole / found['peak'] - 1:+.1%}"),
        *(f"{above:.0f}", f"{taken:.0f}", f"{above / taken - 1:+.1%}"),
        *(f"{seconds:.2f}", f"{found['cpu']:.2f}"),
    ]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--train", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        prepare(options.prepare)
        return
    if options.train:
        train(options.train[0], options.train[1:])
        return
    print("| | planned MiB | peak MiB | error | planned above start | measured | error | planned s a step | CPU s a step |")
    print("|---" * 9 + "|")
    with tempfile.TemporaryDirectory() as folder:
        process(Path(folder), str(Path(__file__).resolve()), "--prepare", folder)
        for name in options.only:
            print(f"| {' | '.join(compare(Path(folder), name))} |", flush=True)


if __name__ == "__main__":
    main()
