"""Folders that plain transformers and peft load, and that score the same."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil

import pytest
import torch
from dpoframe_text.modality import LoraSection, TextModality

from dpoframe import CheckpointError, Example

EXAMPLES = [Example("the cat", " sat on", 0, "a"), Example([{"role": "user", "content": "hello there"}], "a dog", 0, "b")]


def changed(modality):
    """The modality's model with weights that no file holds."""
    model = modality.build()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += torch.randn_like(parameter) * 0.05
    return model


def values(modality, model):
    """Scores of the examples."""
    with torch.no_grad():
        return modality.score(model, modality.collate(EXAMPLES)).value


def plain_values(modality, model):
    """The same by transformers' own logits, one example at a time."""
    found = []
    for tokens in modality.encoder.encode(EXAMPLES):
        ids = torch.tensor([tokens.prompt + tokens.response])
        with torch.no_grad():
            logps = model(ids).logits.double().log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])
        found.append(logps[len(tokens.prompt) - 1 :].sum())
    return torch.stack(found)


# peft itself, called by the test without dpoframe around it, asks transformers by an old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("lora", [None, LoraSection(r=4), LoraSection(r=4, top_layers=1, modules_to_save=("lm_head",))])
@pytest.mark.parametrize("merge", [False, True])
def test_round_trip(tiny, tmp_path, lora, merge):
    """What is saved scores the same when dpoframe reads it, and when plain transformers (with peft) does."""
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    modality = TextModality(model=str(tiny), lora=lora, merge_on_save=merge)
    model = changed(modality)
    expected = values(modality, model)
    modality.save(model, tmp_path)
    read = modality.load(tmp_path)
    assert not read.training
    torch.testing.assert_close(values(modality, read), expected, rtol=1e-6, atol=1e-5)
    adapter = (tmp_path / "adapter_config.json").is_file()
    assert adapter == (lora is not None and not merge)
    for reader in [AutoModelForCausalLM, *([AutoPeftModelForCausalLM] if adapter else [])]:
        plain = reader.from_pretrained(tmp_path)
        torch.testing.assert_close(plain_values(modality, plain), expected, rtol=1e-5, atol=1e-4)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    text = "the cat sat, 12 34\n\n"
    assert tokenizer(text)["input_ids"] == modality.encoder.tokenizer(text)["input_ids"]
    assert tokenizer.chat_template == modality.encoder.tokenizer.chat_template
    torch.testing.assert_close(values(modality, model), expected, rtol=0, atol=0)


def test_what_older_readers_need(tiny, tmp_path):
    """The configuration names rope_theta, and the tokenizer a class, as transformers 4, vLLM and llama.cpp read them."""
    modality = TextModality(model=str(tiny))
    modality.save(modality.build(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["rope_theta"] == 500000.0
    assert config["torch_dtype"] == "float32"
    assert "dpoframe" not in json.dumps(config)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert (tmp_path / "generation_config.json").is_file()


def test_equal_models_write_equal_adapters(tiny, tmp_path):
    """Two saves of one model write the same bytes."""
    modality = TextModality(model=str(tiny), lora=LoraSection(r=4, top_layers=1))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        modality.save(modality.build(), tmp_path / name)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


def test_adapters_without_a_base_file_are_saved_whole(tiny, tmp_path):
    """Adapters on random weights have no base that could be loaded, so the whole model is written."""
    modality = TextModality(model=str(tiny), random_init=3, lora=LoraSection(r=4))
    model = changed(modality)
    modality.save(model, tmp_path)
    assert not (tmp_path / "adapter_config.json").exists()
    torch.testing.assert_close(values(modality, modality.load(tmp_path)), values(modality, model), rtol=1e-6, atol=1e-5)


def test_training_goes_on_from_an_adapter(tiny, tmp_path):
    """An adapter folder named as the model is merged first: new adapters switched off give back the adapted model."""
    first = TextModality(model=str(tiny), lora=LoraSection(r=4))
    model = changed(first)
    first.save(model, tmp_path)
    second = TextModality(model=str(tmp_path), lora=LoraSection(r=2))
    again = second.build()
    torch.testing.assert_close(values(second, again), values(first, model), rtol=1e-6, atol=1e-5)
    for name, parameter in again.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    with second.without_adapter(again):
        torch.testing.assert_close(values(second, again), values(first, model), rtol=1e-6, atol=1e-5)


def test_adapter_whose_base_has_moved(tiny, tmp_path):
    """Where the base named in the folder is gone, the modality's own model is taken; a plain folder says what is missing."""
    home = tmp_path / "home"
    shutil.copytree(tiny, home)
    modality = TextModality(model=str(home), lora=LoraSection(r=4))
    model = changed(modality)
    expected = values(modality, model)
    folder = tmp_path / "adapter"
    folder.mkdir()
    modality.save(model, folder)
    home.rename(tmp_path / "moved")
    moved = dataclasses.replace(modality, model=str(tmp_path / "moved"))
    torch.testing.assert_close(values(moved, moved.load(folder)), expected, rtol=1e-6, atol=1e-5)
    with pytest.raises(CheckpointError, match="There is no model at"):
        TextModality(model=str(folder)).build()


def test_a_run_read_on_another_machine(tiny, tmp_path):
    """A saved model brings its tokenizer: it scores although the model it was made from is nowhere to be found."""
    modality = TextModality(model=str(tiny))
    model = changed(modality)
    modality.save(model, tmp_path)
    away = dataclasses.replace(modality, model="/a/folder/of/another/machine")
    read = away.load(tmp_path)
    torch.testing.assert_close(values(away, read), values(modality, model), rtol=1e-6, atol=1e-5)
    assert pickle.loads(pickle.dumps(away)) == away
