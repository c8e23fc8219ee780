"""What kernels take when they first run: found by running them, in a process that has not."""

from __future__ import annotations

import subprocess
import sys

import torch

from dpoframe.planning.kernels import kernels_bytes

SCRIPT = """
from pathlib import Path
import torch
from dpoframe.planning.kernels import kernels_bytes
def mapped():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssFile")).split()[1])
torch.set_num_threads(1)
start = mapped()
small = kernels_bytes({"aten::mm"}), mapped() - start
start = mapped()
more = kernels_bytes({"aten::mm", "aten::convolution"}), mapped() - start
print(*small, *more, kernels_bytes({"aten::mm", "aten::convolution"}))
"""


def test_code_comes_into_memory_once() -> None:
    """What a layer adds is mapped from files, as the system counts it; convolutions add to products, and again adds little."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    small, small_mapped, more, more_mapped, again = map(int, done.stdout.split())
    assert 0 < small_mapped <= small
    assert 2**20 < more_mapped <= more + 2**18
    assert again < more / 2


def test_random_state_is_left_alone() -> None:
    """A plan draws no number of the caller's."""
    before = torch.get_rng_state()
    assert kernels_bytes({"aten::convolution", "aten::native_layer_norm", "aten::_scaled_dot_product_flash"}) >= 0
    assert torch.equal(torch.get_rng_state(), before)
