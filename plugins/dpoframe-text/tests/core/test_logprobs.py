"""Log-probabilities of rows from hidden states, and their gradients."""

from __future__ import annotations

import pytest
import torch
from dpoframe_text.logprobs import Tiles, cut, cut_pairs, row_logps
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ROWS, SIZE, VOCABULARY = 23, 8, 101


def _parts(dtype=torch.float32, bias=True) -> list[Tensor]:
    torch.manual_seed(0)
    hidden, weight = torch.randn(ROWS, SIZE, dtype=dtype) * 2, torch.randn(VOCABULARY, SIZE, dtype=dtype)
    parts = [hidden, weight, torch.randn(VOCABULARY, dtype=dtype)] if bias else [hidden, weight]
    return [part.requires_grad_() for part in parts]


TARGETS = torch.randint(0, VOCABULARY, (ROWS,), generator=torch.Generator().manual_seed(1))
UPSTREAM = torch.linspace(-1, 2, ROWS)


def _expected(parts: list[Tensor]) -> tuple[Tensor, list[Tensor], Tensor]:
    """Written out in float64: values, gradients under UPSTREAM, log sum of squares."""
    wide = [part.detach().double().requires_grad_() for part in parts]
    logits = wide[0] @ wide[1].t() + (wide[2] if len(wide) > 2 else 0)
    logps = logits - logits.exp().sum(-1, keepdim=True).log()
    values = logps[torch.arange(ROWS), TARGETS]
    return values, list(torch.autograd.grad(values, wide, UPSTREAM.double())), logps.exp().square().sum(-1).log()


HINTS = {
    "none": None,
    "right": lambda logps, start, stop: 3.0 * UPSTREAM[start:stop],
    "wrong": lambda logps, start, stop: UPSTREAM[start:stop].flip(0),
    "zero": lambda logps, start, stop: torch.zeros(stop - start),
    "nearly right": lambda logps, start, stop: UPSTREAM[start:stop] + 1e-4,
}


@pytest.mark.parametrize("hint", HINTS)
@pytest.mark.parametrize("chunk", [1, 5, ROWS, 1000])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_right_whatever_the_hint(hint, chunk, bias) -> None:
    """Equal to float64 arithmetic for every tile size, with right, wrong and missing hints."""
    parts = _parts(bias=bias)
    values, gradients, squares = _expected(parts)
    found, collision = row_logps(*parts, *([] if bias else [None]), TARGETS, Tiles(cut(ROWS, chunk), HINTS[hint], True))
    torch.testing.assert_close(found.double(), values, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(collision.double(), squares, rtol=1e-6, atol=1e-5)
    for one, two in zip(torch.autograd.grad(found, parts, UPSTREAM), gradients, strict=True):
        torch.testing.assert_close(one.double(), two, rtol=1e-5, atol=1e-5)


def test_a_second_backward_is_right() -> None:
    """The gradient formed early is used up by the first backward; the second, with another upstream, computes again."""
    parts = _parts()
    found, _ = row_logps(*parts, TARGETS, Tiles(cut(ROWS, 8), HINTS["right"]))
    first = torch.autograd.grad(found, parts, UPSTREAM, retain_graph=True)
    second = torch.autograd.grad(found, parts, -2 * UPSTREAM)
    for one, two in zip(first, second, strict=True):
        torch.testing.assert_close(-2 * one, two, rtol=1e-5, atol=1e-5)


def test_double_precision_by_finite_differences() -> None:
    """Gradients agree with finite differences in float64."""
    parts = _parts(torch.float64)
    assert torch.autograd.gradcheck(lambda *p: row_logps(*p, TARGETS, Tiles(cut(ROWS, 7)))[0], parts)


def test_improbable_targets_stay_finite() -> None:
    """A target whose probability underflows float32 has its exact log-probability, not minus infinity."""
    hidden, weight = torch.tensor([[300.0]]), torch.tensor([[1.0], [-1.0]])
    found, _ = row_logps(hidden, weight, None, torch.tensor([1]), Tiles(cut(1, 1)))
    assert found.tolist() == [-600.0]


class _Watch(TorchDispatchMode):
    """Remembers the largest tensor made and counts the products as large as a tile of logits."""

    def __init__(self) -> None:
        super().__init__()
        self.largest, self.products = 0, 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        out = function(*arguments, **(keywords or {}))
        if isinstance(out, Tensor):
            self.largest = max(self.largest, out.numel())
        if function._overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm_):
            self.products += 1
        return out


@pytest.mark.parametrize(
    ("hint", "frozen", "products"), [("right", False, 3), ("wrong", False, 5), ("none", False, 4), ("none", True, 2)]
)
def test_work_and_memory(hint, frozen, products) -> None:
    """One tile at a time; 3 products a tile with a right hint, 4 without, 2 with a frozen head; never all logits at once."""
    parts = _parts(bias=False)
    parts[1].requires_grad_(not frozen)
    with _Watch() as watch:
        found, _ = row_logps(*parts, None, TARGETS, Tiles(cut(ROWS, 6), HINTS[hint]))
        found.backward(UPSTREAM)
    assert watch.products == products * 4
    assert watch.largest <= max(6 * VOCABULARY, VOCABULARY * SIZE)


def test_nothing_is_prepared_without_gradients() -> None:
    """Under no_grad a tile costs one product, hint or not."""
    parts = _parts(bias=False)
    with torch.no_grad(), _Watch() as watch:
        row_logps(*parts, None, TARGETS, Tiles(cut(ROWS, 6), HINTS["right"]))
    assert watch.products == 4


def test_autocast_forms_products_in_bfloat16() -> None:
    """Values and gradients stay near float64; the gradient of a float32 weight is float32."""
    parts = _parts(bias=False)
    values, gradients, _ = _expected(parts)
    for hint in (None, HINTS["right"]):
        with torch.autocast("cpu", torch.bfloat16):
            found, _ = row_logps(*parts, None, TARGETS, Tiles(cut(ROWS, 6), hint))
        assert found.dtype == torch.float32
        assert (found.double() - values).abs().max() < 0.15
        for one, two in zip(torch.autograd.grad(found, parts, UPSTREAM), gradients, strict=True):
            assert one.dtype == torch.float32
            assert (one.double() - two).abs().max() < 0.02 * two.abs().max()


def test_tiles() -> None:
    """Tiles cover every row once; pairs stay whole, alone where one is over the limit."""
    assert cut(10, 4) == ((0, 3), (3, 6), (6, 10))
    assert cut(0, 4) == ()
    assert cut_pairs([3, 3, 9, 0, 1, 1], 7) == ((0, 6), (6, 15), (15, 17))
    assert cut_pairs([], 7) == ()
