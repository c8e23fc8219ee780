"""Killed at random points and started again, an evaluation ends in the bytes of one that nobody disturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# One process imports the libraries; each evaluation then runs in a fork of it, which is killed from outside.
RUNNER = """
import os, random, signal, sys, time, traceback
from pathlib import Path
import pyarrow.parquet, scipy.stats, torch
sys.path.insert(0, sys.argv[1])
import grouped

place, trials, kills = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
suite = grouped.write_suite(place)

def begun(out):
    child = os.fork()
    if child:
        return child
    try:
        grouped.evaluate(suite, place / out)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

grouped.evaluate(suite, place / "first")  # what is imported on the way is there for every child
start = time.monotonic()
assert ended(begun("whole")) == 0
seconds = time.monotonic() - start
draw, struck = random.Random(0), 0
for trial in range(trials):
    for _ in range(kills):
        child = begun(f"cut-{trial}")
        time.sleep(draw.uniform(0.05, 0.4) * seconds)
        os.kill(child, signal.SIGKILL)
        struck += ended(child) == -signal.SIGKILL
    assert ended(begun(f"cut-{trial}")) == 0
print(struck, seconds)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, which this system lacks")
@pytest.mark.parametrize(("trials", "kills"), [(2, 6), pytest.param(15, 10, marks=pytest.mark.slow)])
def test_kills_leave_no_trace(tmp_path: Path, trials: int, kills: int) -> None:
    """All exports are byte-equal after kills while it generates, weighs, scores and exports; nothing is left beside them.

    The model's answers and scores depend on what shares a batch, far more than rounding would have them, so they are equal
    only where the batches of the unbroken run are kept.
    """
    words = [sys.executable, "-W", "error", "-c", RUNNER, str(HERE), str(tmp_path), str(trials), str(kills)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=280, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) >= trials * kills // 3, done.stdout
    whole = tmp_path / "whole"
    exports = sorted(file.name for file in whole.iterdir() if file.is_file())
    assert len(exports) == 6
    for trial in range(trials):
        cut = tmp_path / f"cut-{trial}"
        assert sorted(file.name for file in cut.iterdir() if file.is_file()) == exports
        for name in exports:
            assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    assert json.loads((whole / "results.json").read_text())["complete"] is True
