"""Attention by segment: in a flat row every response sees its prompt and itself, and nothing else.

The function is registered with transformers' `AttentionInterface` under the name `IMPLEMENTATION`. A call that carries no
`segments` (generation, padded rows) is passed on to transformers' own sdpa, so a model may keep it selected for good.
The layout travels in the model's keyword arguments, not in a global or a context variable: recomputation under
gradient checkpointing, a second model and other threads each see their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from dpoframe_text.packing import Tree

IMPLEMENTATION = "dpoframe_segments"
_UNSUPPORTED = ("softcap", "s_aux", "position_bias", "cache")


class Segments:
    """Which queries of a flat row see which keys.

    Args:
        trees: Layout of the row.
        ends_only: Queries exist only at positions that predict a scored token: the last of each prompt and all of the
            responses. Keys always exist for the whole row.
    """

    def __init__(self, trees: Sequence[Tree], ends_only: bool = False) -> None:
        self.query_sizes: list[int] = []
        self.key_sizes: list[int] = []
        self.prompts: list[int | None] = []
        self._masks: dict[tuple[Any, ...], Tensor] = {}
        self._varlen: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}
        for tree in trees:
            head = min(tree.length, 1) if ends_only else tree.length
            first, *rest = (branch.length for branch in tree.branches)
            self._add(head + first, tree.length + first, None)
            for length in rest:
                self._add(length, length, tree.length)

    def _add(self, queries: int, keys: int, prompt: int | None) -> None:
        self.query_sizes.append(queries)
        self.key_sizes.append(keys)
        self.prompts.append(prompt)

    def split(self, query: Tensor, key: Tensor, value: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Queries, keys and values of each segment that has queries, from those of the row."""
        parts = ((query, self.query_sizes), (key, self.key_sizes), (value, self.key_sizes))
        pieces = zip(*(torch.split(row, sizes, 2) for row, sizes in parts), strict=True)
        for (one, keys, values), prompt in zip(pieces, self.prompts, strict=True):
            if prompt is None:
                head_keys, head_values = keys, values
                if one.shape[2]:
                    yield one, keys, values
            elif one.shape[2]:
                # The prompt's keys lie at the head of the tree's first segment.
                yield one, torch.cat((head_keys[:, :, :prompt], keys), 2), torch.cat((head_values[:, :, :prompt], values), 2)

    def mask(self, queries: int, keys: int, window: int | None, like: Tensor) -> Tensor | None:
        """Additive (queries, keys) mask for the last `queries` of `keys` positions; None where plain causal is meant."""
        window = None if window is None or window >= keys else window
        if queries == keys and window is None:
            return None
        name = (queries, keys, window, like.dtype, like.device)
        if name not in self._masks:
            hidden = torch.ones(queries, keys, dtype=torch.bool, device=like.device)
            hidden = hidden.triu(keys - queries + 1) | (hidden.tril(keys - queries - window) if window else False)
            self._masks[name] = torch.zeros(queries, keys, dtype=like.dtype, device=like.device).masked_fill_(hidden, float("-inf"))
        return self._masks[name]

    def varlen(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Cumulative query and key lengths (int32), and the index that gathers the keys of all segments."""
        if device not in self._varlen:
            gather: list[int] = []
            key_ends, start, prompt_start = [0], 0, 0
            for size, prompt in zip(self.key_sizes, self.prompts, strict=True):
                if prompt is None:
                    prompt_start = start
                gather += [*range(prompt_start, prompt_start + (prompt or 0)), *range(start, start + size)]
                start += size
                key_ends.append(len(gather))
            queries = torch.tensor([0, *self.query_sizes], device=device).cumsum(0).int()
            keys = torch.tensor(key_ends, device=device, dtype=torch.int32)
            self._varlen[device] = (queries, keys, torch.tensor(gather, device=device))
        return self._varlen[device]


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: Segments,
    *,
    scaling: float | None = None,
    window: int | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention of a flat row: query (1, heads, queries, d), key and value (1, key heads, T, d) to (1, queries, heads, d)."""
    kind = query.device.type
    if torch.is_autocast_enabled(kind):
        # As sdpa does itself; done here so that the kernel below gets them in half precision too.
        query, key, value = (tensor.to(torch.get_autocast_dtype(kind)) for tensor in (query, key, value))
    if _varlen_fits(query, value, dropout):
        return _by_varlen(query, key, value, segments, scaling, window)
    options: dict[str, Any] = {"scale": scaling, "dropout_p": dropout, "enable_gqa": query.shape[1] != key.shape[1]}
    outputs = []
    for one, keys, values in segments.split(query, key, value):
        mask = segments.mask(one.shape[2], keys.shape[2], window, one)
        out = scaled_dot_product_attention(one, keys, values, attn_mask=mask, is_causal=mask is None, **options)
        outputs.append(out.transpose(1, 2))
    return torch.cat(outputs, 1)


def attach_attention(model: Any) -> None:
    """Registers the segment attention with transformers and selects it on a causal language model; idempotent.

    Models whose attention transformers cannot exchange are left as they are; `dpoframe_text.support.reason` says so.
    """
    _register()
    if (
        getattr(model.config, "_attn_implementation", None) != IMPLEMENTATION
        and getattr(model, "_supports_attention_backend", False)
        and getattr(model, "_supports_sdpa", False)
    ):
        model.set_attn_implementation(IMPLEMENTATION)


def segment_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    segments: Segments | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in every attention layer; without `segments` it is transformers' own sdpa."""
    if segments is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    if found := [name for name in _UNSUPPORTED if options.get(name) is not None]:
        raise NotImplementedError(f"attention by segment does not know {', '.join(found)}")
    output = attend(
        query,
        key,
        value,
        segments,
        scaling=options.get("scaling"),
        window=options.get("sliding_window"),
        dropout=options.get("dropout", 0.0),
    )
    return output, None


@cache
def _register() -> None:
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(IMPLEMENTATION, segment_attention)
    AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)


def _varlen_fits(query: Tensor, value: Tensor, dropout: float) -> bool:
    half = query.dtype in (torch.float16, torch.bfloat16)
    return query.is_cuda and half and not dropout and query.shape[-1] == value.shape[-1] and _varlen_works(query.device)


@cache
def _varlen_works(device: torch.device) -> bool:
    """Whether the kernel for rows of different lengths runs here and agrees with per-segment sdpa on a small row.

    It needs a CUDA device of the Ampere generation or later; the tests, which run on a CPU, do not reach it.
    """
    from dpoframe_text.packing import Branch

    segments = Segments((Tree(0, 3, (Branch(0, 3, 2), Branch(1, 5, 4))),))
    with torch.no_grad():
        one, two = (torch.randn(1, heads, 9, 64, device=device, dtype=torch.bfloat16) for heads in (4, 2))
        try:
            fast = _by_varlen(one, two, two, segments, None, None)
        except (ImportError, AttributeError, TypeError, RuntimeError, NotImplementedError):
            return False
        slow = attend(one.float(), two.float(), two.float(), segments)
    return bool((fast.float() - slow).abs().max() < 0.03)


def _by_varlen(query: Tensor, key: Tensor, value: Tensor, segments: Segments, scaling: float | None, window: int | None) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    query_ends, key_ends, gather = segments.varlen(query.device)
    flat = [x[0].transpose(0, 1) for x in (query, key, value)]
    longest = [size + (prompt or 0) for size, prompt in zip(segments.key_sizes, segments.prompts, strict=True)]
    output: Any = varlen_attn(
        flat[0].contiguous(),
        flat[1][gather],
        flat[2][gather],
        query_ends,
        key_ends,
        max(segments.query_sizes),
        max(longest),
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return torch.unsqueeze(output, 0)
