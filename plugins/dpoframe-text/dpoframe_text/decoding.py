"""The loop that writes tokens, out of which rows drop as soon as their answers end.

`generate` of transformers computes every row until the last one ends. Answers differ in length, so most of that work would be
thrown away. Models whose cache cannot be cut by rows go through `generate` all the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor


def can_drop_rows(model: Any) -> bool:
    """Whether the model keeps plain keys and values, a row of the cache for a row of the batch."""
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    if getattr(model, "_is_stateful", False) or not model._supports_default_dynamic_cache():
        return False
    layers = DynamicCache(config=model.config.get_text_config(decoder=True)).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def write(
    model: Any,
    ids: Tensor,
    mask: Tensor,
    limit: int,
    choose: Callable[[Tensor, Tensor, Sequence[int]], Tensor],
    ended: Callable[[Sequence[int]], bool],
) -> list[list[int]]:
    """Up to `limit` tokens for each row of `ids` (N, L), whose padding on the left has 0 in `mask` (N, L).

    Args:
        model: A causal language model that `can_drop_rows`.
        ids: The prompts.
        mask: 1 where a prompt's token stands.
        limit: Most tokens of an answer.
        choose: From tokens so far (n, l), logits (n, V) and the numbers of the n rows left, the next tokens (n,).
        ended: Whether an answer with these tokens is complete.
    """
    from transformers.cache_utils import DynamicCache

    known = inspect.signature(model.forward).parameters
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    rows, written = list(range(len(ids))), [list[int]() for _ in ids]
    step, positions = ids, (mask.cumsum(1) - 1).clamp_min(0)
    for _ in range(limit):
        given = {"position_ids": positions, "logits_to_keep": 1}
        logits = model(
            input_ids=step,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **{name: value for name, value in given.items() if name in known},
        ).logits[:, -1]
        chosen = choose(ids, logits.float(), rows)
        for row, token in zip(rows, chosen.tolist(), strict=True):
            written[row].append(token)
        left = [place for place, row in enumerate(rows) if not ended(written[row])]
        if not left:
            break
        if len(left) < len(rows):
            index = torch.tensor(left, device=ids.device)
            cache.batch_select_indices(index)
            chosen, ids, mask, positions = (tensor[index] for tensor in (chosen, ids, mask, positions))
            rows = [rows[place] for place in left]
        step, positions = chosen[:, None], positions[:, -1:] + 1
        ids, mask = torch.cat((ids, step), 1), torch.cat((mask, torch.ones_like(step)), 1)
    return written
