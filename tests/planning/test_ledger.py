"""The ledger: what it says of a step without numbers is what the step with numbers does."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile

from dpoframe.planning.heap import Heap
from dpoframe.planning.ledger import Ledger
from dpoframe.planning.rehearsal import WEIGHTS, materialise


class Net(nn.Module):
    """An embedding, a convolution, attention and a wide head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 64)
        self.mixing = nn.Conv1d(64, 64, 3, padding=1)
        self.head = nn.Linear(64, 500)

    def forward(self, ids: Tensor) -> Tensor:
        """A scalar from ids (N, T)."""
        state = self.mixing(self.embedding(ids).transpose(1, 2)).transpose(1, 2)
        heads = state.unflatten(-1, (4, 16)).transpose(1, 2)
        mixed = nn.functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True)
        state = mixed.transpose(1, 2).flatten(2)
        if bool((state - state).abs().max() < 1e-3):  # without numbers the answer is yes, as it is with them
            return self.head(state).log_softmax(-1)[..., 0].sum()
        return state.sum()


def rehearsed(net: nn.Module, ids: Tensor) -> Ledger:
    """A ledger of one forward and backward without numbers."""
    fake, ledger = FakeTensorMode(allow_non_fake_inputs=True), Ledger()
    with fake:
        materialise([net])
    for parameter in net.parameters():
        ledger.note(parameter, WEIGHTS)
    with fake, ledger:
        net(ids).backward()
    ledger.heap.release()
    return ledger


def outline() -> nn.Module:
    """The net on the meta device."""
    with torch.device("meta"):
        return Net()


def allocated(job: Callable[[], object]) -> int:
    """Most bytes that torch's own profiler sees allocated at once during a job."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        job()
    events: Any = seen.profiler.kineto_results.events()
    changes = sorted((one.start_ns(), one.nbytes()) for one in events if one.name() == "[memory]")
    return max(itertools.accumulate(size for _, size in changes))


IDS = torch.arange(8 * 40).reshape(8, 40) % 50


def test_peak_is_that_of_a_real_step() -> None:
    """The peak without numbers is within 3 % of what torch's profiler sees of the same step with numbers."""
    net = Net()
    real = allocated(lambda: net(IDS).backward())
    ledger = rehearsed(outline(), IDS)
    planned = sum(ledger.peak.values()) - ledger.peak[WEIGHTS]
    assert planned == pytest.approx(real, rel=0.03)


def test_operations_are_counted_as_by_hand() -> None:
    """2 for each multiplication with its addition: what is done once forward is done twice backward."""
    rows = 8 * 40
    convolution, head = 2 * rows * 64 * 64 * 3, 2 * rows * 64 * 500
    attention = 2 * 2 * 8 * 4 * 40 * 40 * 16
    ledger = rehearsed(outline(), IDS)
    assert ledger.operations == 3 * (convolution + head + attention)


def test_storages_count_once_and_go() -> None:
    """Views cost nothing, what is deleted is gone, and the largest tensor is told with its shape."""
    fake, ledger = FakeTensorMode(), Ledger()
    with fake, ledger:
        one = torch.empty(1000, 10)
        view = one.t()[2:]
        assert sum(ledger.now.values()) == 40_000
        del one
        assert sum(ledger.now.values()) == 40_000
        del view
        assert sum(ledger.now.values()) == 0
    assert ledger.peak == {"activations": 40_000}
    assert ledger.largest == (40_000, (1000, 10))


def test_integers_keep_their_values() -> None:
    """Code that reads integers goes its usual way; a value of a fake number is 1."""
    fake, ledger = FakeTensorMode(allow_non_fake_inputs=True), Ledger()
    ids = torch.tensor([3, 1, 2])
    with fake, ledger:
        assert ids[ids > 1].sum().item() == 5
        assert torch.empty(4)[ids].tolist() == [1.0, 1.0, 1.0]


def test_heap_holds_no_less_than_is_in_use() -> None:
    """The C library holds at least the blocks in use, and a bounded rest; nothing of it is written to."""
    heap = Heap()
    if heap.highest is None:
        pytest.skip("the C library of this system cannot be asked")
    for name in range(64):
        heap.take(name, 2**20)
    assert 64 * 2**20 <= heap.highest < 80 * 2**20
    heap.release()
    heap.take(0, 2**20)
    heap.release()
    assert heap.highest < 80 * 2**20


def test_heap_that_cannot_be_had_is_unknown() -> None:
    """More than any address space holds: the answer is that it is not known, and later blocks are passed over."""
    heap = Heap()
    heap.take(0, 2**62)
    heap.take(1, 2**20)
    assert heap.highest is None
    heap.give(1)
