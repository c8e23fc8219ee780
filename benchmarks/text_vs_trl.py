#!/usr/bin/env python3
"""Preference training of text, measured beside TRL on the same weights, pairs and batches.

    python3 benchmarks/text_vs_trl.py [--repeats 3] [--steps 6] [--threads 2] [--sorted] [--trl-python PATH] [--only NAME ...]

Installs nothing. TRL comes from the dependency group `benchmark` (`uv pip install --group benchmark`), or from another
environment named by `--trl-python`. Each run is a fresh process; the contestants take turns, so that a machine whose
speed drifts is fair to all. Both sides train a random Llama (22.7M parameters, vocabulary 32,000) in float32 with AdamW,
8 pairs a step, all metrics on. Times are per optimizer step, without the first one; memory is the peak above what was
resident when model and data were loaded. TRL runs in its fastest setting for a CPU (float32, no checkpointing), and once
more forced to score response rows only, as it does on CUDA.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from contest import HERE, rounds, show
from prepare import write_model, write_pairs

OURS = {"dpoframe-live": ["--reference", "copy"], "dpoframe-cached": ["--reference", "cached"]}
PEERS = {"trl-live": [], "trl-response-live": ["--response-only"], "trl-response-cached": ["--response-only", "--cached"]}
SETTINGS = {"batch_size": 8, "lr": 1e-5, "max_length": 1024}


def command(name: str, work: Path, options: argparse.Namespace) -> list[str]:
    """How a contestant is started."""
    if name in OURS:
        start = [sys.executable, str(HERE / "dpoframe_worker.py"), *OURS[name]]
    else:
        start = [options.trl_python, str(HERE / "trl_worker.py"), *PEERS[name]]
    return [*start, "--work", str(work), "--threads", str(options.threads)]


def main() -> None:
    """Prepares, runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trl-python", default=sys.executable, help="the interpreter that has TRL")
    parser.add_argument("--sorted", action="store_true", help="steps of pairs of about one length; both sides get the same")
    parser.add_argument("--only", nargs="*", default=[*OURS, *PEERS], choices=[*OURS, *PEERS])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="text-vs-trl-") as folder:
        work = Path(folder)
        write_model(work / "model")
        write_pairs(work / "pairs.jsonl", SETTINGS["batch_size"] * options.steps)
        settings = {**SETTINGS, "steps": options.steps, "sorted": options.sorted}
        (work / "settings.json").write_text(json.dumps(settings))
        subprocess.run([sys.executable, str(HERE / "dpoframe_worker.py"), "--work", str(work), "--order"], check=True)
        results = rounds({name: command(name, work, options) for name in options.only}, options.repeats)
        order = "sorted by length" if options.sorted else "in random order"
        print(f"{options.threads} threads, {options.steps - 1} steps measured a run, pairs {order}")
        show(results, list(OURS), list(PEERS), work)


if __name__ == "__main__":
    main()
