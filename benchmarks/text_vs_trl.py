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
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
OURS = {"dpoframe-live": ["--reference", "copy"], "dpoframe-cached": ["--reference", "cached"]}
PEERS = {"trl-live": [], "trl-response-live": ["--response-only"], "trl-response-cached": ["--response-only", "--cached"]}
SETTINGS = {"batch_size": 8, "lr": 1e-5, "max_length": 1024}


def run(name: str, work: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    """One contestant in a fresh process."""
    if name in OURS:
        command = [sys.executable, str(HERE / "dpoframe_worker.py"), *OURS[name]]
    else:
        command = [options.trl_python, str(HERE / "trl_worker.py"), *PEERS[name]]
    command += ["--work", str(work), "--threads", str(options.threads)]
    # Both sides wait for work without spinning, as `dpoframe train` does: CPU time is then work, whoever shares the machine.
    quiet = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=HERE, env=quiet)
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not results:
        sys.exit(f"{name} failed with exit code {done.returncode}:\n{done.stderr[-3000:]}")
    return dict(json.loads(results[-1].removeprefix("RESULT ")))


def per_step(result: dict[str, list[float]], key: str) -> float:
    """Median over the steps measured."""
    return statistics.median(result[key])


def spread(values: list[float], form: str = "{:.2f}") -> str:
    """`median [low, high]`."""
    low, middle, high = (form.format(value) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} [{low}, {high}]"


def largest_difference(one: Path, two: Path) -> float:
    """Largest difference of any gradient, relative to the largest entry of its tensor."""
    from safetensors.torch import load_file

    ours, theirs = load_file(one), load_file(two)
    if ours.keys() != theirs.keys():
        sys.exit(f"The gradients have different names: {sorted(ours.keys() ^ theirs.keys())[:6]}")
    return max(float((ours[name] - theirs[name]).abs().max() / theirs[name].abs().max()) for name in ours)


def show(results: dict[str, list[dict[str, list[float]]]], work: Path) -> None:
    """Prints the tables."""
    print(f"\n{'':22}{'CPU s/step':>22}{'wall s/step':>22}{'peak MiB above start':>26}")
    for name, runs in results.items():
        memory = [float(one["memory"]) for one in runs]  # type: ignore[arg-type]
        cells = [spread([per_step(one, key) for one in runs]) for key in ("cpu", "wall")]
        print(f"{name:22}{cells[0]:>22}{cells[1]:>22}{spread(memory, '{:.0f}'):>26}")
    print("\nRatios, repeat by repeat: median [lowest, highest]")
    for ours in (name for name in OURS if name in results):
        for peer in (name for name in PEERS if name in results):
            pairs = list(zip(results[peer], results[ours], strict=True))
            row = [spread([per_step(a, key) / per_step(b, key) for a, b in pairs]) for key in ("cpu", "wall")]
            row.append(spread([a["memory"] / b["memory"] for a, b in pairs]))  # type: ignore[operator]
            losses = max(abs(x - y) for a, b in pairs for x, y in zip(a["losses"], b["losses"], strict=True))
            gradient = largest_difference(work / f"{ours}.grads.safetensors", work / f"{peer}.grads.safetensors")
            print(f"{peer} / {ours}: CPU {row[0]}, wall {row[1]}, memory {row[2]}")
            print(
                f"    largest difference: loss {losses:.1e} over all steps, gradient {gradient:.1e} of the tensor's largest entry"
            )


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
        sys.path.insert(0, str(HERE))
        from prepare import write_model, write_pairs

        write_model(work / "model")
        write_pairs(work / "pairs.jsonl", SETTINGS["batch_size"] * options.steps)
        settings = {**SETTINGS, "steps": options.steps, "sorted": options.sorted}
        (work / "settings.json").write_text(json.dumps(settings))
        subprocess.run([sys.executable, str(HERE / "dpoframe_worker.py"), "--work", str(work), "--order"], check=True)
        results: dict[str, list[dict[str, list[float]]]] = {name: [] for name in options.only}
        for repeat in range(options.repeats):
            for name in options.only:
                results[name].append(run(name, work, options))
                step = per_step(results[name][-1], "cpu")
                print(f"repeat {repeat + 1}: {name}: {step:.2f} CPU s a step", file=sys.stderr, flush=True)
        order = "sorted by length" if options.sorted else "in random order"
        print(f"{options.threads} threads, {options.steps - 1} steps measured a run, pairs {order}")
        show(results, work)


if __name__ == "__main__":
    main()
