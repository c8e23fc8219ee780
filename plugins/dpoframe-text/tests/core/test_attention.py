"""Attention by segment."""

from __future__ import annotations

import pytest
import torch
from dpoframe_text import attention
from dpoframe_text.attention import Segments, attend
from dpoframe_text.layers import ends
from dpoframe_text.packing import Branch, Tree
from torch import Tensor

TREES = (
    Tree(0, 4, (Branch(0, 4, 3), Branch(1, 7, 2), Branch(2, 9, 0))),
    Tree(9, 2, (Branch(3, 11, 0), Branch(4, 11, 5))),
    Tree(16, 1, (Branch(5, 17, 1),)),
)
LENGTH = 18


def _visible(window: int | None) -> Tensor:
    """(T, T) who sees whom, written out from the meaning of a tree."""
    sees = torch.zeros(LENGTH, LENGTH, dtype=torch.bool)
    for tree in TREES:
        prompt = list(range(tree.start, tree.start + tree.length))
        for branch in tree.branches:
            path = prompt + list(range(branch.start, branch.start + branch.length))
            for place, query in enumerate(path):
                for other in path[max(0, place + 1 - (window or LENGTH)) : place + 1]:
                    sees[query, other] = True
    return sees


def _dense(query: Tensor, key: Tensor, value: Tensor, window: int | None, scale: float) -> Tensor:
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    weights = (query @ key.transpose(-1, -2) * scale).masked_fill(~_visible(window), float("-inf")).softmax(-1)
    return (weights @ value).transpose(1, 2)


@pytest.mark.parametrize("heads", [4, 2, 1])
@pytest.mark.parametrize("window", [None, 3, 100])
def test_segments_equal_the_dense_mask(heads, window) -> None:
    """Outputs and gradients equal softmax attention under the full mask, with grouped heads and sliding windows."""
    torch.manual_seed(0)
    parts = [torch.randn(1, h, LENGTH, 8, dtype=torch.float64, requires_grad=True) for h in (4, heads, heads)]
    upstream = torch.randn(1, LENGTH, 4, 8, dtype=torch.float64)
    dense = _dense(*parts, window, 0.3)
    expected = torch.autograd.grad(dense, parts, upstream)
    found = attend(*parts, Segments(TREES), scaling=0.3, window=window)
    torch.testing.assert_close(found, dense)
    for one, two in zip(torch.autograd.grad(found, parts, upstream), expected, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("window", [None, 3])
def test_queries_at_the_ends_only(window) -> None:
    """With queries only where a token is predicted, those queries give what they give among all."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 4, LENGTH, 8, dtype=torch.float64) for _ in range(3))
    places = ends(TREES)
    assert places.tolist() == [3, *range(4, 9), 10, *range(11, 16), 16, 17]
    found = attend(query[:, :, places], key, value, Segments(TREES, ends_only=True), scaling=0.3, window=window)
    torch.testing.assert_close(found, _dense(query, key, value, window, 0.3)[:, places])


def test_the_gathered_keys_of_each_segment() -> None:
    """The layout for a varlen kernel: queries by segment, each with its prompt's keys and its own."""
    queries, keys, gather = Segments(TREES).varlen(torch.device("cpu"))
    sees = _visible(None)
    for index in range(len(queries) - 1):
        own = gather[keys[index] : keys[index + 1]]
        rows = range(int(queries[index]), int(queries[index + 1]))
        for back, row in enumerate(reversed(rows)):
            assert sees[row].nonzero()[:, 0].tolist() == own[: len(own) - back].tolist()


def test_the_selected_attention_still_serves_ordinary_calls(make_model) -> None:
    """With the segment attention selected, padded batches and generation give what sdpa gives."""
    from dpoframe_text.attention import attach_attention

    model = make_model("llama").eval()
    ids = torch.tensor([[5, 6, 7, 8, 9], [2, 2, 5, 6, 7]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    before = model(ids, attention_mask=mask).logits, model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False)
    attach_attention(model)
    attach_attention(model)
    assert model.config._attn_implementation == "dpoframe_segments"
    assert "dpoframe" not in model.config.to_json_string()
    after = model(ids, attention_mask=mask).logits, model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False)
    torch.testing.assert_close(before[0][mask.bool()], after[0][mask.bool()])
    assert torch.equal(before[1], after[1])


def test_autocast_reaches_the_choice_of_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under autocast the kernel is chosen for half precision, though rotation leaves queries and keys in float32."""
    seen: list[torch.dtype] = []
    monkeypatch.setattr(attention, "_varlen_fits", lambda query, value, dropout: bool(seen.extend((query.dtype, value.dtype))))
    query, value = torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8).bfloat16()
    segments = Segments((Tree(0, 3, (Branch(0, 3, 2),)),))
    with torch.autocast("cpu", torch.bfloat16):
        out = attend(query, query, value, segments)
    assert seen == [torch.bfloat16] * 2
    assert out.dtype == torch.bfloat16
