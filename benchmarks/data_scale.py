#!/usr/bin/env python3
"""A million pairs: seconds and memory of a check, and of a training that begins before the set was read.

    python3 benchmarks/data_scale.py [--rows 1000000] [--folder /tmp/scale]

Writes pairs of random words (12 in a prompt, 25 in a response) into a Parquet file and its rows into a JSON Lines file, checks
both with `dpoframe data check`, and trains dpoframe's toy model of characters on them with `data.window: 8192`, in fresh processes.
The start is the time from the command to the first row of metrics.jsonl, so imports count. `whole` reads and checks everything
before the first step, for comparison. With --late a run is broken off at 90 % of the set and goes on: it passes over the rows
before.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dpoframe

BATCH = 1000
TOY = f"modality: {{name: '{Path(dpoframe.__file__).parent / 'testing' / 'toy.py'}:ToyModality'}}\n"


def main() -> None:
    """Reads the command line and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10**6)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/dpoframe-scale"))
    parser.add_argument("--late", action="store_true", help="also train on 90 %% of the set, and go on from there (minutes)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    before = os.getloadavg()[0]
    print("| | seconds to the first step | seconds in all | peak MiB |\n|---|---|---|---|")
    for file in written(options.folder, options.rows):
        told(f"check, {file.suffix}", measured(["data", "check", str(file)]))
        steps = 30
        told(f"train, {file.suffix}, window", trained(file, options.folder / "run", steps, 8192))
        told(f"train, {file.suffix}, whole", trained(file, options.folder / "run", steps, None))
        if not options.late:
            continue
        late = int(0.9 * options.rows) // BATCH
        trained(file, options.folder / "late", late, 8192)
        told(f"go on at 90 %, {file.suffix}, window", trained(file, options.folder / "late", late + steps, 8192, resume=True))
    print(f"\n{options.rows:,} rows; load {before:.1f} before, {os.getloadavg()[0]:.1f} after")


def written(folder: Path, rows: int) -> list[Path]:
    """The two files, made where they are not there yet."""
    table, lines = folder / f"{rows}.parquet", folder / f"{rows}.jsonl"
    if table.exists() and lines.exists():
        return [table, lines]
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
    return [table, lines]


def trained(file: Path, out: Path, steps: int, window: int | None, resume: bool = False) -> dict[str, float]:
    """Trains for `steps` steps, or goes on with the run in `out` up to that step."""
    recipe = out.parent / "recipe.yaml"
    data = f"data: {{name: {'parquet' if file.suffix == '.parquet' else 'jsonl'}, path: {file}, window: {window or 'null'}}}\n"
    section = f"trainer: {{max_steps: 100000, batch_size: {BATCH}, lr: 0.001, accelerator: cpu, save_every: {steps}}}\n"
    recipe.write_text(TOY + data + section)
    if not resume:
        shutil.rmtree(out, ignore_errors=True)
    words = ["train", str(recipe), "--out", str(out), *(["--resume"] if resume else [])]
    return measured(words, out / "metrics.jsonl", steps)


def measured(words: list[str], metrics: Path | None = None, steps: int = 0) -> dict[str, float]:
    """Runs a command; seconds to its first row, seconds in all, peak MiB. A training is ended after `steps` rows."""
    had, start, first = rows_of(metrics), time.perf_counter(), float("nan")
    process = subprocess.Popen([sys.executable, "-m", "dpoframe", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        time.sleep(0.02)
        now = rows_of(metrics)
        if now > had and first != first:
            first = time.perf_counter() - start
        if metrics is not None and now >= steps:
            process.terminate()  # it saves and ends
            ended = os.wait4(process.pid, 0)
            break
    process.returncode = os.waitstatus_to_exitcode(ended[1])
    if process.returncode not in (0, 143):
        sys.exit(f"dpoframe {' '.join(words)} ended with {process.returncode}")
    return {"first": first, "all": time.perf_counter() - start, "memory": ended[2].ru_maxrss / 1024}


def rows_of(file: Path | None) -> int:
    """Rows of a file of metrics."""
    return file.read_bytes().count(b"\n") if file is not None and file.is_file() else 0


def told(name: str, figures: dict[str, Any]) -> None:
    """One row of the table."""
    first = "" if figures["first"] != figures["first"] else f"{figures['first']:.1f}"
    print(f"| {name} | {first} | {figures['all']:.1f} | {figures['memory']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
