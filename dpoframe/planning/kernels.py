"""What a first step takes besides its tensors: the code of kernels, which comes into memory when it first runs.

A step on tensors without content runs none. So for each kind of layer that it met one of a few numbers is run, forward, backward
and through an optimizer. Of that a small diffusion model is made 10 MiB larger; the code of its convolutions is the most.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import nn

from dpoframe.planning.process import resident


def kernels_bytes(operations: Collection[str]) -> int:
    """Bytes by which this process grows as it runs layers of these operations; 0 for what it has run before.

    Args:
        operations: Names of torch's operations without their overloads, such as `aten::convolution`.
    """
    before = resident()
    # The global generator stays as it was.
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        for names, run in _LAYERS.items():
            if not names or any(name.split("::")[-1].startswith(names) for name in operations):
                run()
    return max(0, resident() - before)


def _trained(layer: nn.Module, *shape: int) -> None:
    """One step of a layer."""
    layer(torch.randn(shape, requires_grad=True)).square().mean().backward()
    parameters = list(layer.parameters())
    if parameters:
        nn.utils.clip_grad_norm_(parameters, 1.0)
        torch.optim.AdamW(parameters, fused=True).step()


def _attention() -> None:
    one = torch.randn(1, 2, 16, 8, requires_grad=True)
    nn.functional.scaled_dot_product_attention(one, one, one).sum().backward()


def _scores() -> None:
    """From logits to the log-probabilities of responses, which every modality ends in or in something like it."""
    logits = torch.randn(4, 8, 16, requires_grad=True)
    known = logits.log_softmax(-1).gather(-1, torch.zeros(4, 8, 1, dtype=torch.long)).double()
    nn.functional.logsigmoid(known.sum(1)).mean().backward()


_LAYERS: dict[tuple[str, ...], Callable[[], None]] = {
    (): lambda: _trained(nn.Linear(64, 64), 64, 64),
    ("_log_softmax", "logsumexp"): _scores,
    ("convolution",): lambda: _trained(nn.Conv2d(8, 8, 3, padding=1), 2, 8, 16, 16),
    ("native_group_norm",): lambda: _trained(nn.GroupNorm(2, 8), 2, 8, 16, 16),
    ("native_layer_norm",): lambda: _trained(nn.LayerNorm(64), 8, 64),
    ("gelu",): lambda: _trained(nn.GELU(), 8, 64),
    ("_scaled_dot_product",): _attention,
}
"""Layers by the beginnings of the operations' names that they stand for; the first is part of everything."""
