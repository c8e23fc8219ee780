"""The optimizer of a run."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dpoframe.config.sections import TrainerSection
from dpoframe.train.schedule import make_optimizer


@pytest.mark.parametrize("scaler", [None, torch.amp.GradScaler("cpu")])
def test_the_update_is_adamws(scaler) -> None:
    """Two steps equal AdamW's arithmetic (Loshchilov and Hutter 2019) in float64, in one kernel or in several."""
    settings = TrainerSection(lr=0.01, weight_decay=0.1, betas=(0.8, 0.9))
    matrix, vector = (nn.Parameter(torch.full(size, 0.5)) for size in ((2, 2), (3,)))
    optimizer = make_optimizer([matrix, vector], settings, scaler)
    assert bool(optimizer.param_groups[0].get("fused")) is (scaler is None)
    for gradient in (0.3, -0.2):
        for parameter in (matrix, vector):
            parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
    for parameter, decay in ((matrix, 0.1), (vector, 0.0)):
        value, first, second = 0.5, 0.0, 0.0
        for step, gradient in enumerate((0.3, -0.2), 1):
            value -= 0.01 * decay * value
            first, second = 0.8 * first + 0.2 * gradient, 0.9 * second + 0.1 * gradient**2
            value -= 0.01 * (first / (1 - 0.8**step)) / (math.sqrt(second / (1 - 0.9**step)) + 1e-8)
        torch.testing.assert_close(parameter.detach(), torch.full_like(parameter, value))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "adagrad"])
def test_the_first_update(optimizer: str, dtype: torch.dtype) -> None:
    """In every precision all elements move: by lr g with SGD, by lr times the sign of g with the others.

    A kernel of torch for SGD leaves most weights of 16 bits as they are.
    """
    draw = torch.Generator().manual_seed(0)
    value = nn.Parameter(torch.randn(7, 37, generator=draw).to(dtype))
    value.grad = torch.randn(7, 37, generator=draw).to(dtype)
    step = value.grad.double() if optimizer == "sgd" else value.grad.double().sign()
    wanted = value.detach().double() - 0.125 * step
    make_optimizer([value], TrainerSection(optimizer=optimizer, lr=0.125, weight_decay=0.0)).step()
    near = {"rtol": 2 * torch.finfo(dtype).eps, "atol": max(4 * torch.finfo(dtype).eps, 1e-5)}
    torch.testing.assert_close(value.detach().double(), wanted, **near)


@pytest.mark.parametrize("scaler", [None, torch.amp.GradScaler("cpu")])
def test_a_checkpoint_does_not_bring_its_kernel(scaler) -> None:
    """Whether one kernel updates all follows from where a run is, not from where its checkpoint was written."""
    value = nn.Parameter(torch.ones(3, 3))
    value.grad = torch.ones(3, 3)
    made = [
        make_optimizer([value], TrainerSection(lr=0.1), one) for one in (scaler, None if scaler else torch.amp.GradScaler("cpu"))
    ]
    for optimizer in made:
        optimizer.step()
    before = [bool(optimizer.param_groups[0]["fused"]) for optimizer in made]
    assert sorted(before) == [False, True]
    made[0].load_state_dict(made[1].state_dict())
    assert bool(made[0].param_groups[0]["fused"]) is before[0]
    made[0].step()
    assert float(made[0].state[value]["step"]) == 2
