"""Llama-like decoder layers, run over a flat row with less work than transformers' own forward.

Two things are saved. In the last layer a position that predicts nothing has only keys and values: no query, no output, no
MLP. And normalisation, gate and rotation keep less for the backward and make fewer passes over memory than the chains of
elementwise operations that they replace. Both are exact up to rounding. Projections are called as the modules they are, so
LoRA and quantised layers work.

Only families whose forward is known are run so, and each model is tried once against its own forward first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dpoframe_text.attention import Segments, attend
from dpoframe_text.packing import Tree

# LlamaModel and its kin: the same residual order, a rotation over the whole head, no multipliers.
FAMILIES = frozenset({"LlamaModel", "MistralModel", "Qwen2Model", "Qwen3Model"})
_LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"}
_MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}


def fits(decoder: Any) -> bool:
    """Whether the transformer is of a known family, with nothing added to its layers and nobody listening to them."""
    if type(decoder).__name__ not in FAMILIES or _children(decoder) != {"embed_tokens", "layers", "norm", "rotary_emb"}:
        return False
    return all(_layer_fits(layer) for layer in decoder.layers) and not _watched(decoder) and not _watched(decoder.norm)


def run(decoder: Any, input_ids: Tensor, position_ids: Tensor, trees: tuple[Tree, ...], skip: bool) -> Tensor:
    """Hidden states (P, D) of a flat row after the final norm: P = T, or, with `skip`, only the positions of `ends`."""
    state = decoder.embed_tokens(input_ids)
    cosine, sine = decoder.rotary_emb(state, position_ids=position_ids)
    half = cosine.shape[-1] // 2
    row = _Row(cosine[0, :, None, :half], sine[0, :, None, :half], Segments(trees), None)
    last = row
    if skip:
        last = _Row(row.cosine, row.sine, Segments(trees, ends_only=True), ends(trees).to(input_ids.device))
    state = state[0]
    final = len(decoder.layers) - 1
    for number, layer in enumerate(decoder.layers):
        forward = partial(_layer, layer, last if number == final else row)
        if layer.gradient_checkpointing and layer.training:
            state = layer._gradient_checkpointing_func(forward, state)
        else:
            state = forward(state)
    return norm(decoder.norm, state)


def ends(trees: tuple[Tree, ...]) -> Tensor:
    """Flat positions that may predict a scored token, in row order: the last of each prompt, all inputs of responses."""
    places: list[int] = []
    for tree in trees:
        places += range(tree.start + max(tree.length - 1, 0), tree.start + tree.length)
        for branch in tree.branches:
            places += range(branch.start, branch.start + branch.length)
    return torch.tensor(places, dtype=torch.long)


@dataclass(frozen=True)
class _Row:
    """What a layer must know of the row; `places` are the positions that have queries, None for all."""

    cosine: Tensor
    sine: Tensor
    segments: Segments
    places: Tensor | None


def _layer(layer: Any, row: _Row, state: Tensor) -> Tensor:
    attention = layer.self_attn
    seen = norm(layer.input_layernorm, state)
    asked, cosine, sine = seen, row.cosine, row.sine
    if row.places is not None:
        asked, state, cosine, sine = (tensor.index_select(0, row.places) for tensor in (seen, state, cosine, sine))
    query = rotate(_headed(attention, "q", asked), cosine, sine)
    key = rotate(_headed(attention, "k", seen), row.cosine, row.sine)
    value = _headed(attention, "v", seen)
    query, key, value = (tensor.unsqueeze(0).transpose(1, 2) for tensor in (query, key, value))
    mixed = attend(
        query,
        key,
        value,
        row.segments,
        scaling=attention.scaling,
        window=_window(attention),
        dropout=attention.attention_dropout if attention.training else 0.0,
    )
    state = state + attention.o_proj(mixed.flatten(2)[0])
    mlp = layer.mlp
    seen = norm(layer.post_attention_layernorm, state)
    return state + down(mlp.down_proj, mlp.act_fn, mlp.gate_proj(seen), mlp.up_proj(seen))


def _window(attention: Any) -> int | None:
    if hasattr(attention, "sliding_window"):
        return attention.sliding_window  # type: ignore[no-any-return]
    return getattr(attention.config, "sliding_window", None)


def _headed(attention: Any, which: str, state: Tensor) -> Tensor:
    """(T, heads, d) projection, with the norm over each head that Qwen3 has."""
    projected: Tensor = getattr(attention, f"{which}_proj")(state).unflatten(-1, (-1, attention.head_dim))
    own = getattr(attention, f"{which}_norm", None)
    return projected if own is None else norm(own, projected)


def norm(module: Any, state: Tensor) -> Tensor:
    """The module's root-mean-square norm; in one piece in float32 on a CPU, where no other fused form exists."""
    simple = type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon") and not _watched(module)
    if not simple or state.device.type != "cpu" or not state.dtype == module.weight.dtype == torch.float32:
        out: Tensor = module(state)
        return out
    normed: Tensor = _Norm.apply(state, module.weight, module.variance_epsilon)  # type: ignore[no-untyped-call]
    return normed


def down(project: nn.Module, activation: nn.Module, gated: Tensor, up: Tensor) -> Tensor:
    """project(activation(gated) * up). With SiLU the product, as large as its factors, is formed again in the backward."""
    plain = type(activation).__name__ in ("SiLU", "SiLUActivation") and not _watched(activation) and gated.dtype == up.dtype
    if not plain:
        out: Tensor = project(activation(gated) * up)
        return out
    if _bare(project, gated):
        return _Down.apply(gated, up, project.weight)  # type: ignore[no-any-return, no-untyped-call]
    return project(_Gate.apply(gated, up))  # type: ignore[no-any-return, no-untyped-call]


def _bare(project: Any, given: Tensor) -> bool:
    """Whether a projection is its weight and nothing else: no bias, adapter, hook or parametrization, no cast on the way."""
    if type(project) is not nn.Linear or project.bias is not None or _watched(project):
        return False
    return project.weight.dtype == given.dtype and not torch.is_autocast_enabled(given.device.type)


def rotate(state: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary position embedding of (T, heads, d) by (T, 1, d / 2) (Su et al. 2021, arXiv 2104.09864), halves paired."""
    return _Rotation.apply(state, cosine, sine)  # type: ignore[no-any-return, no-untyped-call]


class _Norm(torch.autograd.Function):
    """x r w with r = (mean x^2 + eps)^-1/2. With n = x r: d x = r (g w - n mean(g w n)), d w = sum g n."""

    @staticmethod
    def forward(ctx: Any, state: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        size = state.shape[-1]
        scale = torch.linalg.vector_norm(state, dim=-1, keepdim=True).square_().div_(size).add_(epsilon).rsqrt_()
        ctx.save_for_backward(state, weight, scale)
        return (state * scale).mul_(weight)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        state, weight, scale = ctx.saved_tensors
        normed = state * scale
        product = upstream * normed
        by_weight = product.flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        mean = (product @ weight).div_(state.shape[-1]).unsqueeze(-1)
        by_state = torch.mul(upstream, weight, out=product).sub_(normed.mul_(mean)).mul_(scale)
        return by_state, by_weight, None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gated: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gated, up)
        return torch.nn.functional.silu(gated).mul_(up)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor]:
        gated, up = ctx.saved_tensors
        by_up = torch.nn.functional.silu(gated).mul_(upstream)
        return torch.ops.aten.silu_backward(upstream * up, gated), by_up


class _Down(torch.autograd.Function):
    """y = (silu(a) * b) W^T, keeping a, b and W."""

    @staticmethod
    def forward(ctx: Any, gated: Tensor, up: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(gated, up, weight)
        return torch.nn.functional.silu(gated).mul_(up) @ weight.t()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gated, up, weight = ctx.saved_tensors
        activated = torch.nn.functional.silu(gated)
        by_weight = upstream.t() @ (activated * up) if ctx.needs_input_grad[2] else None
        by_product = upstream @ weight
        by_up = activated.mul_(by_product)
        return torch.ops.aten.silu_backward(by_product.mul_(up), gated), by_up, by_weight


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, state: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        ctx.dtype = state.dtype
        return _turned(state, cosine, sine, 1)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        cosine, sine = ctx.saved_tensors
        return _turned(upstream, cosine, sine, -1).to(ctx.dtype), None, None


def _turned(state: Tensor, cosine: Tensor, sine: Tensor, sign: int) -> Tensor:
    one, two = state.chunk(2, -1)
    out = torch.empty(state.shape, dtype=torch.promote_types(state.dtype, cosine.dtype), device=state.device)
    first, second = out.chunk(2, -1)
    torch.mul(one, cosine, out=first).addcmul_(two, sine, value=-sign)
    torch.mul(two, cosine, out=second).addcmul_(one, sine, value=sign)
    return out


def _layer_fits(layer: Any) -> bool:
    if _children(layer) != _LAYER or not hasattr(layer, "gradient_checkpointing"):
        return False
    attention, mlp = layer.self_attn, layer.mlp
    if not _children(attention) <= _ATTENTION or _children(mlp) != _MLP:
        return False
    own = [module for part in (layer, attention, mlp) for module in part._parameters.values() if module is not None]
    return not own and not any(_watched(part) for part in (layer, attention, mlp))


def _children(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}


def _watched(module: Any) -> bool:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name) for name in hooks) or "forward" in vars(module)
