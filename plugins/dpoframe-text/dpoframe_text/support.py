"""Whether a model's attention can be told about segments, found out by asking it."""

from __future__ import annotations

import threading
import weakref

import torch
from torch import Tensor, nn

from dpoframe_text.attention import IMPLEMENTATION, Segments, attach_attention
from dpoframe_text.heads import Parts
from dpoframe_text.packing import Branch, Tree

_PROMPT, _FIRST, _SECOND = (1, 2, 3), (4, 5), (3, 2, 1)
_known: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def reason(parts: Parts) -> str | None:
    """Why this model cannot read a flat row of segments, or None where it can. Looked up once a model.

    What the configuration tells is refused at once (linear or chunked attention, soft-capped attention, no exchangeable attention).
    Then a prompt of three tokens with two responses is run through the model as a flat row and as two plain rows: hidden
    states must agree. That finds what no configuration tells: state carried along the row, positions counted from a mask.
    """
    with _lock:
        if parts.decoder not in _known:
            _known[parts.decoder] = _told(parts) or _tried(parts) or ""
        return _known[parts.decoder] or None


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


def _tried(parts: Parts) -> str | None:
    device = parts.model.get_input_embeddings().weight.device
    if device.type == "meta":
        return None
    training = [module for module in parts.decoder.modules() if module.training]
    parts.decoder.eval()
    try:
        with torch.no_grad():
            difference = _difference(parts.decoder, device)
    except (TypeError, ValueError, RuntimeError, NotImplementedError, IndexError, KeyError, AttributeError) as error:
        return f"a flat row failed in it ({type(error).__name__}: {error})"
    finally:
        for module in training:
            module.training = True
    return None if difference else "a flat row gave other hidden states than plain rows"


def _difference(decoder: nn.Module, device: torch.device) -> bool:
    def run(ids: tuple[int, ...], **options: object) -> Tensor:
        row = torch.tensor([ids], device=device)
        state: Tensor = decoder(input_ids=row, use_cache=False, **options).last_hidden_state[0]
        return state.float()

    start = len(_PROMPT)
    tree = Tree(0, start, (Branch(0, start, len(_FIRST)), Branch(1, start + len(_FIRST), len(_SECOND))))
    places = [*range(start + len(_FIRST)), *range(start, start + len(_SECOND))]
    positions = torch.tensor([places], device=device)
    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)
    flat = run(_PROMPT + _FIRST + _SECOND, position_ids=positions, attention_mask=mask, segments=Segments((tree,)))
    one, two = run(_PROMPT + _FIRST), run(_PROMPT + _SECOND)
    plain = torch.cat((one, two[start:]))
    allowed = 1e-4 if next(decoder.parameters()).dtype == torch.float32 else 5e-2
    return bool((flat - plain).abs().max() <= allowed * plain.abs().max().clamp_min(1.0))
