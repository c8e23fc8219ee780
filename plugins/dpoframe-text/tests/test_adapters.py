"""LoRA: what is trained, what stays as it was, and what switches off."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from dpoframe_text.adapters import merged
from dpoframe_text.modality import LoraSection, TextModality

from dpoframe import ConfigError, Example

EXAMPLES = [Example("the cat", " sat", 0, "a"), Example("a dog", " and a cat", 0, "b")]


@pytest.fixture
def modality(tiny):
    """Adapters of rank 4 on a model of two layers."""
    return TextModality(model=str(tiny), lora=LoraSection(r=4))


def trained(model):
    """The same model, its adapters no longer zero."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, 0.2)
    return model


def values(modality, model):
    """Scores of the examples."""
    with torch.no_grad():
        return modality.score(model, modality.collate(EXAMPLES)).value


def test_only_adapters_are_trained(modality):
    """All but the adapters is frozen, so a reference shares it; every linear layer but the head has one."""
    model = modality.build()
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert all("lora_" in name for name in names)
    assert len(names) == 2 * 7 * 2
    assert not any("lm_head" in name or "embed" in name for name in names)


def test_adapters_off_score_as_the_base(modality):
    """Switched off, trained adapters leave the base model's scores to the bit; on, they change them."""
    base = values(modality, dataclasses.replace(modality, lora=None).build())
    model = modality.build()
    assert torch.equal(values(modality, model), base)
    trained(model)
    assert not torch.allclose(values(modality, model), base, atol=1e-2)
    with modality.without_adapter(model):
        assert torch.equal(values(modality, model), base)


def test_top_layers(modality):
    """Adapters on the upper layers alone; the backward ends below them."""
    model = dataclasses.replace(modality, lora=LoraSection(r=4, top_layers=1)).build()
    layers = {name.split("layers.")[1][0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert layers == {"1"}
    seen = []
    for number, layer in enumerate(model.get_base_model().model.layers):
        layer.register_forward_hook(lambda part, args, out, number=number: seen.append((number, out.requires_grad)))
    modality.score(model, modality.collate(EXAMPLES))
    assert dict(seen).get(0) is False
    same = dataclasses.replace(modality, lora=LoraSection(r=4, layers_to_transform=(1,))).build()
    assert [name for name, _ in same.named_parameters()] == [name for name, _ in model.named_parameters()]


def test_first_values_depend_on_the_section_alone(modality):
    """Two builds give equal adapters whatever torch's own generator says, and leave it alone."""
    torch.manual_seed(1)
    one = modality.build().state_dict()
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    two = modality.build().state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_merging_for_a_while_restores_every_bit(modality):
    """Inside `merged` the model answers as before, up to rounding; afterwards its weights are the very same."""
    model = trained(modality.build()).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    unmerged = values(modality, model)
    with merged(model):
        assert any(not torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert torch.allclose(values(modality, model), unmerged, atol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(values(modality, model), unmerged)


def test_scaling(modality):
    """Alpha is twice the rank unless given."""
    scale = {
        alpha: dataclasses.replace(modality, lora=LoraSection(r=4, alpha=alpha)).build().peft_config["default"].lora_alpha
        for alpha in (None, 4, 6.5)
    }
    assert scale == {None: 8, 4: 4, 6.5: 6.5}


def test_sections_that_cannot_be(tiny):
    """All faults of a section are named at once; those that need the model come with its build."""
    with pytest.raises(ValueError, match=r"lora\.r is 0.*lora\.dropout is 1.*exclude each other"):
        TextModality(model=str(tiny), lora=LoraSection(r=0, dropout=1.0, top_layers=1, layers_to_transform=(0,)))
    with pytest.raises(ConfigError, match="the model has 2 layers"):
        TextModality(model=str(tiny), lora=LoraSection(top_layers=3)).build()
    with pytest.raises(ConfigError, match="do not fit LlamaForCausalLM"):
        TextModality(model=str(tiny), lora=LoraSection(target_modules=("nothing",))).build()


def test_merging_leaves_a_tied_head_alone(tiny):
    """An adapter on a head that shares the embedding's weights acts in the head alone, inside `merged` too."""
    modality = TextModality(model=str(tiny), lora=LoraSection(r=4, target_modules=("lm_head",)))
    base = dataclasses.replace(modality, lora=None).build()
    base.lm_head.weight = base.model.embed_tokens.weight
    model = trained(modality.lora.attach(base)).eval()
    embedding = base.get_input_embeddings().weight
    kept = embedding.detach().clone()
    with merged(model):
        assert torch.equal(base.get_input_embeddings().weight, kept)
