"""Decoder layers run directly."""

from __future__ import annotations

import pytest
import torch
from dpoframe_text import layers
from dpoframe_text.packing import Branch, Tree

TREES = (Tree(0, 3, (Branch(0, 3, 2), Branch(1, 5, 3))), Tree(8, 1, (Branch(2, 9, 0), Branch(3, 9, 2))))


def _row() -> tuple[torch.Tensor, torch.Tensor]:
    positions = [0, 1, 2, 3, 4, 3, 4, 5, 0, 1, 2]
    return torch.arange(3, 14)[None], torch.tensor([positions])


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral"])
def test_skipped_positions_change_no_other(family, make_model) -> None:
    """With the last layer's skip the remaining positions equal those of the whole row."""
    decoder = make_model(family).model
    ids, positions = _row()
    whole = layers.run(decoder, ids, positions, TREES, skip=False)
    kept = layers.run(decoder, ids, positions, TREES, skip=True)
    places = layers.ends(TREES)
    assert places.tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    torch.testing.assert_close(kept, whole[places], rtol=1e-5, atol=1e-6)


def test_pieces_by_finite_differences() -> None:
    """Norm, gate and rotation have the gradients that finite differences give in float64."""
    torch.manual_seed(0)
    x, y = (torch.randn(5, 2, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    w = torch.randn(6, dtype=torch.float64, requires_grad=True)
    angle = torch.randn(5, 1, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: layers._Norm.apply(a, b, 1e-5), (x, w))
    assert torch.autograd.gradcheck(layers._Gate.apply, (x, y))
    projection = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    flat = (x.detach().flatten(0, 1).requires_grad_(), y.detach().flatten(0, 1).requires_grad_(), projection)
    assert torch.autograd.gradcheck(layers._Down.apply, flat)
    assert torch.autograd.gradcheck(lambda a: layers.rotate(a, angle.cos(), angle.sin()), (x,))


def test_pieces_equal_the_modules_they_stand_for(make_model) -> None:
    """Norm, gate and rotation give what transformers' own give, values and gradients."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    layer = make_model("llama").model.layers[0]
    state = torch.randn(1, 7, 32, requires_grad=True)
    upstream = torch.randn(7, 32)
    square, biased = torch.nn.Linear(32, 32, bias=False), torch.nn.Linear(32, 32)
    product = layer.mlp.act_fn(state) * (state + 1)
    for mine, theirs, project in (
        (layers.norm(layer.input_layernorm, state[0]), layer.input_layernorm(state)[0], None),
        (layers.down(square, layer.mlp.act_fn, state[0], state[0] + 1), square(product)[0], square),
        (layers.down(biased, layer.mlp.act_fn, state[0], state[0] + 1), biased(product)[0], biased),
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
        inputs = (state, *(project.parameters() if project else ()))
        expected = torch.autograd.grad(theirs, inputs, upstream, retain_graph=True)
        torch.testing.assert_close(torch.autograd.grad(mine, inputs, upstream), expected, rtol=1e-5, atol=1e-6)
    angle = torch.randn(1, 7, 4)
    both = torch.cat((angle, angle), -1)
    heads = state.view(1, 7, 4, 8)
    theirs, _ = apply_rotary_pos_emb(heads.transpose(1, 2), heads.transpose(1, 2), both.cos(), both.sin())
    mine = layers.rotate(heads[0], angle[0, :, None].cos(), angle[0, :, None].sin())
    torch.testing.assert_close(mine, theirs[0].transpose(0, 1), rtol=1e-5, atol=1e-6)


def _hook(module, *_):
    return None


@pytest.mark.parametrize("place", ["model.layers.0", "model.layers.1.mlp", "model.norm", "model.layers.0.self_attn", "model"])
def test_a_model_that_is_watched_runs_its_own_forward(place, make_model) -> None:
    """Hooks on what would be stepped over, such as those that shard or offload layers, switch the direct path off."""
    model = make_model("llama")
    assert layers.fits(model.model)
    model.get_submodule(place).register_forward_hook(_hook)
    assert not layers.fits(model.model)


def test_other_families_are_left_alone(make_model) -> None:
    """Gemma adds one to its norm weights and scales its embeddings; GPT-2 is built otherwise."""
    assert not layers.fits(make_model("gemma").model)
    assert not layers.fits(make_model("gpt2").transformer)
    changed = make_model("llama").model
    changed.layers[0].extra = torch.nn.Linear(2, 2)
    assert not layers.fits(changed)
