"""The text modality keeps the contract of modalities, and its recipe keys are checked."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from typing import ClassVar

import pytest
import torch
from dpoframe_text.modality import LoraSection, TextModality
from pydantic import TypeAdapter, ValidationError

from dpoframe import DataError, Example, MissingExtraError
from dpoframe.testing import ModalityContract


class TestFull(ModalityContract):
    """All weights trained."""

    settings: ClassVar = {"max_new_tokens": 6, "temperature": 0.7}


class TestAdapters(ModalityContract):
    """Adapters trained, strings as chat turns, padded rows."""

    settings: ClassVar = {"max_new_tokens": 6}


class TestWeighted(ModalityContract):
    """Tokens that a pair shares count less."""

    settings: ClassVar = {"max_new_tokens": 6}


@pytest.fixture(autouse=True, scope="module")
def _modalities(tiny):
    """The model's folder is made at run time, so the contracts get their modalities here."""
    TestFull.modality = TextModality(model=str(tiny))
    TestWeighted.modality = TextModality(model=str(tiny), difference_weight=0.1)
    TestAdapters.modality = TextModality(
        model=str(tiny), lora=LoraSection(r=4), chat="always", padding_free=False, share_prompt=False
    )


def test_recipe_keys(tiny):
    """A recipe's mapping becomes the modality; unknown keys and values of the wrong kind are refused."""
    reader = TypeAdapter(TextModality)
    given = {"model": str(tiny), "lora": {"r": 8, "target_modules": ["q_proj", "v_proj"], "top_layers": 1}, "chat": "never"}
    made = reader.validate_python(given)
    assert made == TextModality(
        model=str(tiny), lora=LoraSection(r=8, target_modules=("q_proj", "v_proj"), top_layers=1), chat="never"
    )
    for wrong in ({"modle": "x"}, {"chat": "sometimes"}, {"lora": {"rank": 1}}, {"max_length": "long"}):
        with pytest.raises(ValidationError):
            reader.validate_python({**given, **wrong})


def test_values_that_cannot_be_are_named_together():
    """Every impossible value is named in one error."""
    with pytest.raises(ValueError, match=r"max_length is 1.*chunk is 0.*max_prompt_length is 5.*load_in_4bit needs a lora section"):
        TextModality(model="x", max_length=1, chunk=0, max_prompt_length=5, load_in_4bit=True)


def test_every_field_is_documented():
    """The docstring, which is the recipe's reference, names every key."""
    for part in (TextModality, LoraSection):
        for field in dataclasses.fields(part):
            assert f"\n        {field.name}: " in str(part.__doc__), field.name


def test_four_bits_need_their_library(tiny):
    """Without bitsandbytes, 4-bit loading is refused with the exact command."""
    if importlib.util.find_spec("bitsandbytes") is not None:
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(MissingExtraError, match=r"pip install 'dpoframe-text\[quantized\]'"):
        TextModality(model=str(tiny), lora=LoraSection(), load_in_4bit=True).build()


def test_fingerprint_knows_scores_from_speed(tiny):
    """What changes scores changes the fingerprint; what changes the speed alone does not."""
    modality = TextModality(model=str(tiny))
    speed = {
        "share_prompt": False,
        "padding_free": False,
        "chunk": 7,
        "fused_head": False,
        "last_layer_skip": False,
        "generation_batch": 1,
    }
    assert dataclasses.replace(modality, **speed, lora=LoraSection()).fingerprint() == modality.fingerprint()
    for change in ({"max_length": 64}, {"append_eos": False}, {"chat": "always"}, {"system": "x"}, {"dtype": "bfloat16"}):
        assert dataclasses.replace(modality, **change).fingerprint() != modality.fingerprint(), change


def test_empty_responses_are_refused(tiny):
    """A response without a token cannot be scored; the pair is named."""
    with pytest.raises(DataError, match="pair-7"):
        TextModality(model=str(tiny), append_eos=False).collate([Example("a", "", 0, "pair-7")])


@pytest.mark.parametrize("seed", [0, 7])
def test_a_pair_twice_in_a_batch(tiny, seed):
    """A pair that a step holds twice, in one epoch or in two, keeps its partners: details and gradients are those of it alone."""
    modality = TextModality(model=str(tiny), chat="never", chunk=1).with_details(frozenset({"shared"}))
    model = modality.build()
    long, short = "a much longer response than the other", "short"

    def examples(seeds):
        return [Example("Say something.", text, one, "p") for text in (long, short) for one in seeds]

    def gradient(values, index):
        count = len(index)
        assert count % 2 == 0, "a hint is asked about half a pair"
        return torch.where(index < len(values_seen) // 2, 1.0, -1.0).to(values)

    def trained(seeds):
        nonlocal values_seen
        batch = modality.collate(examples(seeds))
        values_seen = batch.lengths
        model.zero_grad()
        scores = modality.score_with_hint(model, batch, gradient)
        half = len(seeds)
        ((scores.value[:half] - scores.value[half:]).sum() / half).backward()
        return scores, model.get_output_embeddings().weight.grad.clone()

    values_seen = torch.empty(0)
    once, gradient_once = trained([0])
    twice, gradient_twice = trained([0, seed])
    for name in ("value", "length"):
        torch.testing.assert_close(getattr(twice, name), getattr(once, name).repeat_interleave(2))
    torch.testing.assert_close(twice.detail["shared"], once.detail["shared"].repeat_interleave(2))
    torch.testing.assert_close(gradient_twice, gradient_once, rtol=1e-4, atol=1e-6)


def test_dropout_is_off_in_training(tiny, tmp_path):
    """A model configured with dropout scores the same twice in training mode, so policy and reference agree at first."""
    from transformers import GPT2Config, GPT2LMHeadModel

    modality = TextModality(model=str(tiny))
    tokenizer = modality.encoder.tokenizer
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=64)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    modality = TextModality(model=str(tmp_path))
    model = modality.build()
    batch = modality.collate([Example("the cat", " sat", 0, "a")])
    assert model.training
    with torch.no_grad():
        assert torch.equal(modality.score(model, batch).value, modality.score(model, batch).value)


def test_gradient_checkpointing_changes_no_gradient(tiny):
    """With activations recomputed, scores and gradients are the same."""
    found = []
    for switch in (False, True):
        modality = TextModality(model=str(tiny), lora=LoraSection(r=4), gradient_checkpointing=switch)
        model = modality.build()
        scores = modality.score(model, modality.collate([Example("the cat", " sat", 0, "a"), Example("a dog", " and", 0, "b")]))
        scores.value.sum().backward()
        found.append([scores.value.detach(), *(tensor.grad for tensor in model.parameters() if tensor.requires_grad)])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_the_entry_point_is_light():
    """What the host imports to list the plugin loads neither torch nor transformers, and names what exists."""
    code = "import sys, dpoframe_text as t; print(t.dpoframe_modalities(), 'torch' in sys.modules, 'transformers' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split("} ")[1].split() == ["False", "False"]
    assert "dpoframe_text.modality:TextModality" in said
