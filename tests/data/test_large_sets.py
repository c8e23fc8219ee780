"""Sets far larger than what is held of them: memory of a check and of training window by window, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Write = Callable[[str, int, int], Path]

START = """
import resource, sys
from functools import partial
from dpoframe.data.inspection import Inspection
from dpoframe.data.loading import _behind
from dpoframe.data.sources import Source, inspect_source
from dpoframe.data.windowed_stream import WindowedStream
from dpoframe.data.windows import WindowReader
from dpoframe.plugins import PluginHost
host = PluginHost([], [])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
"""
CHECK = """
def run(name, path):
    return inspect_source(Source(name, {"path": path}), host).used
"""
TRAIN = """
def run(name, path):
    windows = WindowReader("the set", 64, partial(_behind, name, {"path": path}, host), partial(Inspection, "the set"))
    stream, step = WindowedStream(windows, 16), 0
    while windows.count is None or 16 * (step + 1) < windows.count:
        for epoch, position in stream.step(step):
            stream.pair(epoch, position)
        step += 1
    return windows.count
"""
END = """
run(*sys.argv[1:3])
before = peak()
print(run(sys.argv[1], sys.argv[3]), 1024 * (peak() - before))
"""


def grown(script: str, name: str, small: Path, large: Path) -> tuple[int, int]:
    """Pairs of the large file, and bytes by which the peak grew from the small one to it."""
    command = [sys.executable, "-c", START + script + END, name, str(small), str(large)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, size = map(int, done.stdout.split())
    return count, size


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """`written(kind, count, length)`: a file of so many pairs with texts of that length, all different."""

    def write(kind: str, count: int, length: int) -> Path:
        file, text = tmp_path / f"{count}.{kind}", "x" * length
        rows = [{"prompt": f"{n} {text}", "chosen": f"{n} a {text}", "rejected": f"{n} b {text}"} for n in range(count)]
        if kind == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), file, compression="none", use_dictionary=False, row_group_size=1000)
        else:
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return file

    return write


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_training_holds_two_windows(kind: str, written: Write) -> None:
    """40 MB of pairs in windows of 64 take less than 10 MB more than 2 MB of them."""
    count, size = grown(TRAIN, kind, written(kind, 640, 1000), written(kind, 13_000, 1000))
    assert count == 13_000
    assert size < 10_000_000


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_check_holds_digests_alone(kind: str, written: Write) -> None:
    """Digests of pair and prompt in tables that double, the old beside the new for a moment: up to 64 bytes a pair; 10 MB else."""
    count, size = grown(CHECK, kind, written(kind, 640, 1000), written(kind, 13_000, 1000))
    assert count == 13_000
    assert size < 64 * 13_000 + 10_000_000
