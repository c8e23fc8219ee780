"""The digest of weights."""

from __future__ import annotations

import hashlib

import pytest
import torch

from dpoframe.digests import tensors_digest

WEIGHTS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor([1, -2], dtype=torch.int64), "empty": torch.empty(0)}


def test_it_is_what_the_docstring_says() -> None:
    """The digest of the parts' digests, by name, written out with numpy's bytes."""
    whole = hashlib.blake2b(digest_size=16)
    for name in ("a", "b", "empty"):
        tensor = WEIGHTS[name]
        whole.update(hashlib.sha256(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes()).digest())
    assert tensors_digest(WEIGHTS.items()) == whole.hexdigest()


@pytest.mark.parametrize(
    "changed",
    [
        {"b": torch.arange(6.0).reshape(3, 2)},
        {"b": torch.arange(6.0).reshape(2, 3).double()},
        {"b": torch.arange(6.0).reshape(2, 3) + torch.tensor([0, 0, 1e-6])},
        {"c": torch.zeros(1)},
    ],
)
def test_whatever_differs_changes_it(changed: dict[str, torch.Tensor]) -> None:
    """A shape, a type, one value or one more tensor gives another digest."""
    assert tensors_digest({**WEIGHTS, **changed}.items()) != tensors_digest(WEIGHTS.items())


def test_order_layout_and_threads_do_not() -> None:
    """Neither the order, nor how a tensor lies in memory, nor its gradient, nor the number of threads matters."""
    other = {
        "empty": WEIGHTS["empty"],
        "b": torch.nn.Parameter(WEIGHTS["b"].t().contiguous().t()),
        "a": WEIGHTS["a"].repeat_interleave(2)[::2],
    }
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = tensors_digest(WEIGHTS.items())
    finally:
        torch.set_num_threads(before)
    assert tensors_digest(other.items()) == alone


def test_half_precision_is_read() -> None:
    """Types that numpy does not know are digested as well."""
    assert tensors_digest([("w", torch.ones(3, dtype=torch.bfloat16))]) != tensors_digest([("w", torch.ones(3).half())])
