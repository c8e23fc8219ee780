#!/usr/bin/env python3
"""Preference training of pictures, measured beside the plain loop of public Diffusion-DPO scripts, on the same everything.

    python3 benchmarks/diffusion_vs_script.py [--repeats 3] [--steps 6] [--threads 2] [--side 256] [--only NAME ...]

Installs nothing; the photographs come with scikit-learn. Both sides train LoRA of rank 8 on a random pipeline in the shape
of Stable Diffusion 1.5 in float32, 4 pairs a step, from the same adapters, on the same pairs, noise and times; each run is
a fresh process, the contestants take turns. The script (`script_worker.py`, written for this comparison) encodes pictures
and captions at every step and runs the reference at every step. dpoframe runs through its ordinary `fit` with all metrics
on: `live` runs the reference at every step, `cached` reads its errors from disk, as a run does that sees each pair with
the same few draws of noise again (`trainer.seeds_per_pair`). What dpoframe computes once before the first step is not
counted; it is what the script does at each step. Times are per optimizer step, without the first one; memory is the peak
above what was resident when the models were loaded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from contest import HERE, rounds, show
from diffusion_prepare import write_pairs, write_pipeline

OURS = {"dpoframe-live": ["--reference", "adapter"], "dpoframe-cached": ["--reference", "cached"]}
PEERS = {"script": list[str]()}
SETTINGS = {"batch_size": 4, "lr": 1e-4, "beta": 5000.0, "rank": 8}


def command(name: str, work: Path, threads: int) -> list[str]:
    """How a contestant is started."""
    file = "diffusion_worker.py" if name in OURS else "script_worker.py"
    return [sys.executable, str(HERE / file), *OURS.get(name, []), "--work", str(work), "--threads", str(threads)]


def main() -> None:
    """Prepares, runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", type=int, default=256, help="pixels of a picture's side")
    parser.add_argument("--only", nargs="*", default=[*OURS, *PEERS], choices=[*OURS, *PEERS])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="diffusion-vs-script-") as folder:
        work = Path(folder)
        write_pipeline(work / "pipeline")
        write_pairs(work, int(SETTINGS["batch_size"]) * options.steps, options.side)
        (work / "settings.json").write_text(json.dumps({**SETTINGS, "steps": options.steps, "side": options.side}))
        subprocess.run([sys.executable, str(HERE / "diffusion_worker.py"), "--work", str(work), "--draws"], check=True)
        results = rounds({name: command(name, work, options.threads) for name in options.only}, options.repeats)
        print(f"{options.threads} threads, {options.steps - 1} steps measured a run, pictures of {options.side} pixels")
        show(results, list(OURS), list(PEERS), work)


if __name__ == "__main__":
    main()
