#!/usr/bin/env python3
"""The evaluation harness: how fast it writes answers beside its peers, and how fast it scores stored ones.

    python3 benchmarks/harness.py generation [--model smollm2] [--prompts 48] [--tokens 48] [--repeats 3] [--threads 2]
                                             [--lm-eval-python PATH] [--only NAME ...]
    python3 benchmarks/harness.py scoring [--samples 100000]

Installs nothing. lm-evaluation-harness comes from this environment, or from another one named by `--lm-eval-python`; where it
is not installed it is left out. Each run is a fresh process and the contestants take turns. Loading the model does not count.
For dpoframe the whole of `run_suite` counts: answers, store, scores, figures, files. Its peers only write answers.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SIDES = ("dpoframe", "plain-loop", "lm-eval")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("generation")
    one.add_argument("--model", default="smollm2")
    one.add_argument("--prompts", type=int, default=48)
    one.add_argument("--tokens", type=int, default=48)
    one.add_argument("--repeats", type=int, default=3)
    one.add_argument("--threads", type=int, default=2)
    one.add_argument("--lm-eval-python", default=sys.executable)
    one.add_argument("--only", nargs="*", default=SIDES, choices=SIDES)
    other = commands.add_parser("scoring")
    other.add_argument("--samples", type=int, default=100_000)
    options = parser.parse_args()
    {"generation": generation, "scoring": scoring}[options.command](options)


def worker(python: str, side: str, work: Path, *words: str) -> dict[str, float]:
    """One run in a fresh process."""
    command = [python, str(HERE / "harness_worker.py"), side, str(work), *words]
    # Both sides wait for work without spinning, as the command line does.
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not results:
        sys.exit(f"{side} failed with exit code {done.returncode}:\n{done.stderr[-3000:]}")
    return dict(json.loads(results[-1].removeprefix("RESULT ")))


def generation(options: argparse.Namespace) -> None:
    """Tokens a second of each side on the same weights and prompts, and how many texts are the same."""
    sides = [side for side in options.only if side != "lm-eval" or has_lm_eval(options.lm_eval_python)]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        worker(sys.executable, "prepare", work, options.model, str(options.prompts))
        found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for number in range(options.repeats):
            for side in sides[number % len(sides) :] + sides[: number % len(sides)]:
                python = options.lm_eval_python if side == "lm-eval" else sys.executable
                found[side].append(worker(python, side, work, str(options.tokens), str(options.threads)))
        texts = {side: json.loads((work / f"{side}.json").read_text()) for side in sides}
    print(f"{options.prompts} prompts, at most {options.tokens} tokens, {options.threads} threads, {options.repeats} repeats\n")
    print("| | tokens a second | CPU tokens a second | peak MiB | texts as dpoframe's |\n|---|---|---|---|---|")
    for side in sides:
        same = sum(one == other for one, other in zip(texts[side], texts[sides[0]], strict=True))
        columns = [spread([run[key] for run in found[side]]) for key in ("speed", "cpu_speed", "memory")]
        print(f"| {side} | {' | '.join(columns)} | {same} of {options.prompts} |")
    for side in sides[1:]:
        ratios = [ours["speed"] / theirs["speed"] for ours, theirs in zip(found[sides[0]], found[side], strict=True)]
        print(f"\n{sides[0]} / {side}: {spread(ratios, '{:.2f}')}")


def has_lm_eval(python: str) -> bool:
    """Whether an interpreter has lm-evaluation-harness."""
    found = "import importlib.util, sys; sys.exit(importlib.util.find_spec('lm_eval') is None)"
    there = subprocess.run([python, "-c", found], check=False).returncode == 0
    if not there:
        print(f"lm_eval is not installed for {python}: left out.", file=sys.stderr)
    return there


def scoring(options: argparse.Namespace) -> None:
    """Seconds and peak memory of scoring stored samples, in a process that does nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        made = worker(sys.executable, "store", work, str(options.samples))
        scored = worker(sys.executable, "score", work, str(options.samples))
    print(f"{options.samples:,} samples; response_length and distinct_n\n")
    print("| | seconds | CPU seconds | peak MiB |\n|---|---|---|---|")
    for name, one in (("answers into the store, and export", made), ("score stored answers, aggregate, export", scored)):
        print(f"| {name} | {one['seconds']:.1f} | {one['cpu']:.1f} | {one['memory']:.0f} |")
    print(f"\nBefore any sample was read the scoring process held {scored['before']:.0f} MiB (Python, torch, scipy, pyarrow).")


def spread(values: list[float], form: str = "{:.1f}") -> str:
    """`median [low, high]`."""
    low, middle, high = (form.format(value) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} [{low}, {high}]"


if __name__ == "__main__":
    main()
