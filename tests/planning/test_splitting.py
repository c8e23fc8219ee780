"""What a rank holds of a split model, against sums by hand."""

from __future__ import annotations

from torch import nn

from dpoframe.planning.splitting import gathered_bytes


def layer(inputs: int, outputs: int, trained: bool = True) -> nn.Linear:
    """A matrix without a bias."""
    return nn.Linear(inputs, outputs, bias=False).requires_grad_(trained)


def test_without_blocks_everything_is_gathered() -> None:
    """All parameters, and the gradients of those that are trained."""
    model = nn.Sequential(layer(3, 5), layer(5, 7, trained=False))
    assert gathered_bytes(model, []) == 4 * (15 + 35) + 4 * 15


def test_blocks_come_two_at_a_time() -> None:
    """What lies in no block, with its gradients; two of the largest block, and the gradients of one."""
    model = nn.Sequential(layer(3, 5), layer(10, 10), layer(2, 2), layer(5, 7, trained=False))
    assert gathered_bytes(model, [model[1], model[2]]) == 4 * (15 + 35) + 4 * 15 + 2 * 4 * 100 + 4 * 100


def test_frozen_blocks_have_no_gradients() -> None:
    """Adapters lie in blocks as well; here none does."""
    model = nn.Sequential(layer(3, 5, trained=False), layer(10, 10, trained=False))
    assert gathered_bytes(model, [model[1]]) == 4 * 15 + 2 * 4 * 100
