#!/usr/bin/env python3
"""A million pairs: seconds and memory of a check, of a training that begins before the set was read, and of going on late in it.

    python3 benchmarks/data_scale.py [--rows 1000000] [--folder /tmp/scale] [--kinds parquet jsonl] [--cases check start whole late]

Writes pairs of random words (12 in a prompt, 25 in a response) into a Parquet file and its rows into a JSON Lines file. `check` is
`dpoframe data check`; the others train a model of a few characters, so that reading is what is measured, in steps of 1,000 pairs,
each in a fresh process. The time to the first step is that from the command to the first row of metrics.jsonl, so imports count.

`start` trains 30 steps with `data.window: 8192`; `whole` does after everything was read and checked. `late` (minutes) trains on
93 % of the set twice: once unbroken, and once killed without a warning after 90 % and gone on with. Both ends are compared: SHA-256
of the exported weights and of the optimizer's state, and every row of metrics.jsonl but for its speed. With fewer --rows the peaks
tell what memory grows with.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

BATCH, WINDOW, STEPS = 1000, 8192, 30
CASES, KINDS = ("check", "start", "whole", "late"), ("parquet", "jsonl")
MODALITY = f"modality: {{name: '{Path(__file__).resolve().parent / 'beginnings.py'}:Beginnings'}}\n"


@dataclass(frozen=True)
class Figures:
    """Of one process: seconds to its first step (none of a check), in all and of CPU, and peak MiB."""

    first: float | None
    seconds: float
    cpu: float
    memory: float


def main() -> None:
    """Reads the command line and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10**6)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/dpoframe-scale"))
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS)
    parser.add_argument("--cases", nargs="*", default=CASES[:3], choices=CASES)
    parser.add_argument("--state", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.state:
        print(json.dumps(state(Path(options.state[0]), int(options.state[1]))))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    print(f"{options.rows:,} rows\n")
    print("| | seconds to the first step | seconds in all | CPU seconds | peak MiB | load |")
    print("|---" * 6 + "|", flush=True)
    for file in written(options.folder, options.rows):
        if file.suffix[1:] not in options.kinds:
            continue
        if "check" in options.cases:
            told(f"check, {file.suffix}", measured(["data", "check", str(file)]))
        for case, window in (("start", WINDOW), ("whole", None)):
            if case in options.cases:
                told(f"{case}, {file.suffix}", trained(file, options.folder / "run", STEPS, window))
        if "late" in options.cases:
            late(file, options.folder, int(0.9 * options.rows) // BATCH)


def late(file: Path, folder: Path, step: int) -> None:
    """Kills a run behind `step`, goes on with it, and compares its end with that of an unbroken one."""
    last, end = step + STEPS, file.suffix
    told(f"unbroken, {last:,} steps, {end}", trained(file, folder / "unbroken", last, WINDOW, save=step))
    broken = folder / "broken"
    told(f"killed behind step {step:,}, {end}", trained(file, broken, last, WINDOW, save=step, kill=step + STEPS // 2))
    told(f"gone on with, {end}", trained(file, broken, last, WINDOW, save=step, resume=True))
    same = end_of(folder / "unbroken", last) == end_of(broken, last)
    print(f"\nThe run gone on with {'equals' if same else 'DIFFERS FROM'} the unbroken one.\n", flush=True)
    if not same:
        sys.exit(1)


def written(folder: Path, rows: int) -> list[Path]:
    """The two files, made where they are not there yet."""
    table, lines = folder / f"{rows}.parquet", folder / f"{rows}.jsonl"
    if not (table.exists() and lines.exists()):  # in a process of its own, as for `end_of`
        maker = get_context("spawn").Process(target=write, args=(table, lines, rows))
        maker.start()
        maker.join()
        if maker.exitcode:
            sys.exit("The files could not be written.")
    return [table, lines]


def write(table: Path, lines: Path, rows: int) -> None:
    """Writes the same rows into both."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnop", k=draw.randint(2, 9))) for _ in range(5000)]
    lengths = {"prompt": 12, "chosen": 25, "rejected": 25}
    writer = None
    with lines.open("w") as file:
        for start in range(0, rows, 50_000):
            count = min(50_000, rows - start)
            columns = {name: [" ".join(draw.choices(words, k=size)) for _ in range(count)] for name, size in lengths.items()}
            batch = pa.table(columns)
            writer = writer or pq.ParquetWriter(table, batch.schema)
            writer.write_table(batch, row_group_size=10_000)
            file.writelines(json.dumps(row) + "\n" for row in batch.to_pylist())
    assert writer is not None, "no rows were asked for"
    writer.close()


def trained(
    file: Path, out: Path, steps: int, window: int | None, save: int | None = None, kill: int | None = None, resume: bool = False
) -> Figures:
    """Trains for `steps` steps, or goes on with the run in `out`; killed once it has told of step `kill`."""
    recipe = out.parent / "recipe.yaml"
    data = f"data: {{name: {file.suffix[1:]}, path: {file}, window: {window or 'null'}}}\n"
    saved = f"accelerator: cpu, devices: 1, save_every: {save or steps}, keep_checkpoints: 2"
    recipe.write_text(f"{MODALITY}{data}trainer: {{max_steps: {steps}, batch_size: {BATCH}, lr: 0.001, {saved}}}\n")
    if not resume:
        shutil.rmtree(out, ignore_errors=True)
    words = ["train", str(recipe), "--out", str(out), *(["--resume"] if resume else [])]
    known = [int(one.stem.removeprefix("step-")) for one in (out / "checkpoints").glob("step-*.ckpt")]
    return measured(words, out / "metrics.jsonl", max(known, default=0), kill)


def measured(words: list[str], metrics: Path | None = None, resumed: int = 0, kill: int | None = None) -> Figures:
    """Runs a command to its end, or until it has written so many rows that it is killed.

    A run that goes on takes its rows back to those of its checkpoint, `resumed`, before it adds one.
    """
    start, first, behind = time.perf_counter(), None, rows_of(metrics) > resumed
    said = tempfile.TemporaryFile()  # noqa: SIM115 (a pipe could fill up, and the process would wait)
    process = subprocess.Popen([sys.executable, "-m", "dpoframe", *words], stdout=subprocess.DEVNULL, stderr=said)
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        time.sleep(0.02)
        rows = rows_of(metrics)
        behind = behind and rows > resumed
        if first is None and not behind and rows > resumed:
            first = time.perf_counter() - start
        if kill is not None and rows >= kill:
            process.kill()
            ended = os.wait4(process.pid, 0)
            break
    process.returncode = os.waitstatus_to_exitcode(ended[1])
    if process.returncode != (0 if kill is None else -signal.SIGKILL):
        said.seek(0)
        sys.exit(f"dpoframe {' '.join(words)} ended with {process.returncode}:\n{said.read().decode()[-3000:]}")
    used = ended[2]
    return Figures(first, time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def rows_of(file: Path | None) -> int:
    """Rows of a file of metrics."""
    return file.read_bytes().count(b"\n") if file is not None and file.is_file() else 0


def end_of(out: Path, step: int) -> Any:
    """`state` in a process of its own: whatever a process starts counts as having been as large as it is, and torch is large."""
    words = [sys.executable, str(Path(__file__).resolve()), "--state", str(out), str(step)]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def state(out: Path, step: int) -> dict[str, Any]:
    """What must be equal in the end: digests of weights and of the optimizer's state, and rows but for their speed."""
    import torch
    from safetensors.torch import load_file

    from dpoframe.checkpoint import DurableCheckpointIO

    def digests(value: Any, name: str) -> dict[str, str]:
        if isinstance(value, torch.Tensor):
            return {name: hashlib.sha256(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()).hexdigest()}
        parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
        return {key: digest for part, one in parts for key, digest in digests(one, f"{name}.{part}").items()}

    checkpoint = DurableCheckpointIO().load_checkpoint(out / "checkpoints" / f"step-{step:08d}.ckpt")
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {
        **digests(load_file(out / "model" / "model.safetensors"), "weights"),
        **digests(checkpoint["optimizer_states"], "optimizer"),
        "rows": [{key: value for key, value in row.items() if key != "tokens_per_second"} for row in rows],
    }


def told(name: str, one: Figures) -> None:
    """One row of the table."""
    first = "" if one.first is None else f"{one.first:.1f}"
    print(f"| {name} | {first} | {one.seconds:.1f} | {one.cpu:.1f} | {one.memory:.0f} | {os.getloadavg()[0]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
