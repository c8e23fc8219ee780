"""Trainers side by side: each run is a fresh process, the contestants take turns, and ratios are taken turn by turn."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
Result = dict[str, Any]
"""What a worker prints: lists `cpu`, `wall` and `losses`, and `memory` in MiB."""


def run(name: str, command: Sequence[str]) -> Result:
    """One contestant in a fresh process."""
    # All sides wait for work without spinning, as `dpoframe train` does: CPU time is then work, whoever shares the machine.
    quiet = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=HERE, env=quiet)
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not results:
        sys.exit(f"{name} failed with exit code {done.returncode}:\n{done.stderr[-3000:]}")
    return dict(json.loads(results[-1].removeprefix("RESULT ")))


def rounds(commands: Mapping[str, Sequence[str]], repeats: int) -> dict[str, list[Result]]:
    """Every contestant in turn, `repeats` times."""
    results: dict[str, list[Result]] = {name: [] for name in commands}
    for repeat in range(repeats):
        for name, command in commands.items():
            results[name].append(run(name, command))
            step = per_step(results[name][-1], "cpu")
            print(f"repeat {repeat + 1}: {name}: {step:.2f} CPU s a step", file=sys.stderr, flush=True)
    return results


def per_step(result: Result, key: str) -> float:
    """Median over the steps measured."""
    return statistics.median(result[key])


def spread(values: Sequence[float], form: str = "{:.2f}") -> str:
    """`median [low, high]`."""
    low, middle, high = (form.format(value) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} [{low}, {high}]"


def largest_difference(one: Path, two: Path) -> float:
    """Largest difference of any gradient, relative to the largest entry of the peer's tensor where that is not 0."""
    from safetensors.torch import load_file

    ours, theirs = load_file(one), load_file(two)
    if ours.keys() != theirs.keys():
        sys.exit(f"The gradients have different names: {sorted(ours.keys() ^ theirs.keys())[:6]}")
    scales = {name: float(theirs[name].abs().max()) for name in theirs}
    return max(float((ours[name] - theirs[name]).abs().max()) / (scales[name] or 1.0) for name in ours)


def show(results: Mapping[str, Sequence[Result]], ours: Sequence[str], peers: Sequence[str], work: Path) -> None:
    """Prints the tables; gradients lie in `work` as `<name>.grads.safetensors`."""
    print(f"\n{'':22}{'CPU s/step':>22}{'wall s/step':>22}{'peak MiB above start':>26}")
    for name, runs in results.items():
        cells = [spread([per_step(one, key) for one in runs]) for key in ("cpu", "wall")]
        print(f"{name:22}{cells[0]:>22}{cells[1]:>22}{spread([one['memory'] for one in runs], '{:.0f}'):>26}")
    print("\nRatios, repeat by repeat: median [lowest, highest]")
    for own in (name for name in ours if name in results):
        for peer in (name for name in peers if name in results):
            pairs = list(zip(results[peer], results[own], strict=True))
            row = [spread([per_step(a, key) / per_step(b, key) for a, b in pairs]) for key in ("cpu", "wall")]
            row.append(spread([a["memory"] / b["memory"] for a, b in pairs]))
            losses = max(abs(x - y) for a, b in pairs for x, y in zip(a["losses"], b["losses"], strict=True))
            gradient = largest_difference(work / f"{own}.grads.safetensors", work / f"{peer}.grads.safetensors")
            print(f"{peer} / {own}: CPU {row[0]}, wall {row[1]}, memory {row[2]}")
            print(
                f"    largest difference: loss {losses:.1e} over all steps, gradient {gradient:.1e} of the tensor's largest entry"
            )
