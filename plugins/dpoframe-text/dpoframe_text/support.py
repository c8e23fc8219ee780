"""Whether a model's attention can be told about segments, found out by asking it."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from dpoframe_text import layers
from dpoframe_text.attention import IMPLEMENTATION, Segments, attach_attention
from dpoframe_text.heads import Parts, take_apart
from dpoframe_text.packing import Branch, Tree

_PROMPT, _FIRST, _SECOND = (1, 2, 3), (4, 5), (3, 2, 1)
_TREE = Tree(0, 3, (Branch(0, 3, 2), Branch(1, 5, 3)))
_known: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()
_direct: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def reason(parts: Parts) -> str | None:
    """Why this model cannot read a flat row of segments, or None where it can. Looked up once a model.

    What the configuration tells is refused at once (linear, chunked or soft-capped attention, none that can be exchanged).
    Then a prompt of three tokens with two responses is run through the model as a flat row and as two plain rows: hidden
    states must agree. That finds what no configuration tells: state carried along the row, positions counted from a mask.
    """
    with _lock:
        if parts.decoder not in _known:
            _known[parts.decoder] = _told(parts) or _tried(parts.decoder, parts.decoder) or ""
        return _known[parts.decoder] or None


def direct(parts: Parts) -> bool:
    """Whether `layers.run` may take the place of the transformer's own forward: its layers fit and the results agree.

    The layers are looked at in every call, for hooks and wrappers may come at any time; the results are compared once.
    """
    if not layers.fits(parts.decoder):
        return False
    with _lock:
        if parts.decoder not in _direct:
            _direct[parts.decoder] = _tried(parts.decoder, _run) is None
        return _direct[parts.decoder]


def presume(model: nn.Module) -> None:
    """Takes a model without values to be read as its configuration tells: there is nothing to be tried."""
    parts = take_apart(model)
    if parts is not None:
        with _lock:
            _known[parts.decoder] = _told(parts) or ""
            _direct[parts.decoder] = layers.fits(parts.decoder)


def _told(parts: Parts) -> str | None:
    attach_attention(parts.model)
    config = parts.decoder.config
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"layers of kind {', '.join(sorted(kinds))}"
    if getattr(config, "attn_logit_softcapping", None):
        return "soft-capped attention logits"
    if getattr(config, "is_encoder_decoder", False):
        return "an encoder"
    if getattr(config, "_attn_implementation", None) != IMPLEMENTATION:
        return "attention that transformers cannot exchange"
    return None


def _tried(decoder: nn.Module, flat: Callable[..., Any]) -> str | None:
    """Runs `flat` on a flat row and the transformer on plain rows, without dropout; says what went wrong, or None."""
    device = decoder.get_input_embeddings().weight.device  # type: ignore[operator]
    training = [module for module in decoder.modules() if module.training]
    decoder.eval()
    try:
        with torch.no_grad():
            same = _agree(decoder, functools.partial(flat, decoder) if flat is _run else flat, device)
    except (TypeError, ValueError, RuntimeError, NotImplementedError, IndexError, KeyError, AttributeError) as error:
        return f"a flat row failed in it ({type(error).__name__}: {error})"
    finally:
        for module in training:
            module.training = True
    return None if same else "a flat row gave other hidden states than plain rows"


def _run(decoder: nn.Module, *, input_ids: Tensor, position_ids: Tensor, **_: Any) -> Any:
    return SimpleNamespace(last_hidden_state=layers.run(decoder, input_ids, position_ids, (_TREE,), skip=False)[None])


def _agree(decoder: nn.Module, flat: Callable[..., Any], device: torch.device) -> bool:
    def state(run: Callable[..., Any], ids: Sequence[int], **options: Any) -> Tensor:
        row = torch.tensor([ids], device=device)
        found: Tensor = run(input_ids=row, use_cache=False, **options).last_hidden_state[0]
        return found.float()

    start = len(_PROMPT)
    places = [*range(start + len(_FIRST)), *range(start, start + len(_SECOND))]
    positions = torch.tensor([places], device=device)
    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)
    packed = state(flat, _PROMPT + _FIRST + _SECOND, position_ids=positions, attention_mask=mask, segments=Segments((_TREE,)))
    plain = torch.cat((state(decoder, _PROMPT + _FIRST), state(decoder, _PROMPT + _SECOND)[start:]))
    allowed = 1e-4 if plain.dtype == next(decoder.parameters()).dtype else 5e-2
    return bool((packed - plain).abs().max() <= allowed * plain.abs().max().clamp_min(1.0))
