"""Answers: reproducible one by one, ended where they should end, under settings that are checked."""

from __future__ import annotations

import collections
import functools

import pytest
import torch
from dpoframe_text import generation
from dpoframe_text.decoding import can_drop_rows
from dpoframe_text.modality import LoraSection, TextModality
from dpoframe_text.settings import GenerationSettings

from dpoframe import ConfigError, MachineError, Request

PROMPTS = ["Once upon a time", "Lily and Tom went to the", "One day, a big dog", "The sun", "Tim had"]


@pytest.fixture(scope="module")
def modality(stories):
    """The story model, four answers at a time."""
    return TextModality(model=str(stories), generation_batch=4)


@pytest.fixture(scope="module")
def model(modality):
    """Its weights."""
    return modality.build()


def answers(modality, model, settings, prompts=PROMPTS):
    """Samples by request, all asked for at once."""
    requests = [Request(str(n), prompt, 10 + n, settings) for n, prompt in enumerate(prompts)]
    return {sample.id: sample for sample in modality.generate(model, requests)}


@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 20},
        {"max_new_tokens": 20, "temperature": 0.8, "top_p": 0.9},
        {"max_new_tokens": 20, "do_sample": True, "top_k": 20, "repetition_penalty": 1.3},
    ],
)
def test_a_sample_depends_on_its_request_alone(modality, model, settings):
    """Alone, in company, or in another order: the same answer."""
    together = answers(modality, model, settings)
    for number, prompt in enumerate(PROMPTS):
        alone = next(modality.generate(model, [Request("x", prompt, 10 + number, settings)]))
        assert alone.response == together[str(number)].response
        assert alone.finished == together[str(number)].finished
    torch.manual_seed(99)
    backwards = [Request(str(n), PROMPTS[n], 10 + n, settings) for n in (4, 2, 0, 3, 1)]
    assert {sample.id: sample for sample in modality.generate(model, backwards)} == together


def test_greedy_is_transformers_own(modality, model, stories):
    """A greedy answer is what `generate` of transformers gives for the same tokens, and so is a penalised one."""
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(stories)
    for penalty in (1.0, 1.5):
        found = answers(modality, model, {"max_new_tokens": 30, "repetition_penalty": penalty})
        for number, prompt in enumerate(PROMPTS):
            ids = modality.encoder.prompts([prompt])[0]
            written = plain.generate(
                torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids)),
                max_new_tokens=30,
                do_sample=False,
                repetition_penalty=penalty,
            )
            assert found[str(number)].response == modality.encoder.decode(ids, written[0, len(ids) :].tolist())


@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 25, "stop": ["."], "repetition_penalty": 1.2},
        {"max_new_tokens": 25, "temperature": 0.9, "top_k": 30, "stop": [".", "a"]},
    ],
)
def test_dropping_rows_changes_no_answer(modality, model, settings, monkeypatch):
    """Rows leave the batch as their answers end; with all of them kept to the end, by transformers, answers are the same."""
    rows = []
    inner = model.forward

    def watched(*args, **options):
        rows.append(len(options["input_ids"]))
        return inner(*args, **options)

    monkeypatch.setattr(model, "forward", functools.wraps(inner)(watched))
    dropping = answers(modality, model, settings)
    assert len(set(rows)) > 2
    monkeypatch.setattr(generation, "can_drop_rows", lambda model: False)
    assert answers(modality, model, settings) == dropping


def test_models_without_plain_caches_go_through_transformers(tmp_path, tiny):
    """A model with a state in place of keys and values writes as well, alone or in a batch."""
    from transformers import MambaConfig, MambaForCausalLM

    tokenizer = TextModality(model=str(tiny)).encoder.tokenizer
    config = MambaConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, state_size=4, eos_token_id=1)
    MambaForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    modality = TextModality(model=str(tmp_path))
    model = modality.build()
    assert not can_drop_rows(model)
    found = answers(modality, model, {"max_new_tokens": 4}, ["the cat", "a dog and a cat"])
    assert {sample.detail["length"] for sample in found.values()} <= {1.0, 2.0, 3.0, 4.0}


def test_seeds_draw_from_the_models_distribution(modality, model):
    """Over many seeds the first token comes as often as the softmax at that temperature says (chi-square below its 99.9 %)."""
    from scipy.stats import chi2

    ids = modality.encoder.prompts(["Once upon a time, there was a little"])[0]
    with torch.no_grad():
        expected = (model(torch.tensor([ids])).logits[0, -1] / 1.5).softmax(-1)
    count = 600
    requests = [
        Request(str(n), "Once upon a time, there was a little", n, {"max_new_tokens": 1, "temperature": 1.5}) for n in range(count)
    ]
    modality = TextModality(model=modality.model, generation_batch=100)
    drawn = collections.Counter(sample.response for sample in modality.generate(model, requests))
    likely = expected.topk(5)
    texts = [modality.encoder.decode(ids, [token]) for token in likely.indices.tolist()]
    observed = torch.tensor([drawn[text] for text in texts] + [count - sum(drawn[text] for text in texts)], dtype=torch.float64)
    wanted = torch.cat([likely.values, 1 - likely.values.sum(0, keepdim=True)]).double() * count
    assert ((observed - wanted) ** 2 / wanted).sum() < chi2.ppf(0.999, 5)


def test_answers_end(modality, model):
    """An answer ends at a stop string, which is no part of it, or at the limit, or at the end token."""
    stopped = answers(modality, model, {"max_new_tokens": 60, "stop": [".", "!"]})
    for sample in stopped.values():
        assert sample.finished
        assert not set(sample.response) & set(".!")
        assert 0 < sample.detail["length"] < 60
    cut = answers(modality, model, {"max_new_tokens": 5})
    assert {(sample.finished, sample.detail["length"]) for sample in cut.values()} == {(False, 5.0)}


def test_end_token_ends_an_answer(tiny):
    """The end-of-text token, and a template's end-of-turn mark, finish an answer and are counted but not shown."""
    modality = TextModality(model=str(tiny))
    model = modality.build()
    for end in (1, 2):
        with torch.no_grad():
            model.lm_head.weight.zero_()
            model.lm_head.bias = torch.nn.Parameter(torch.nn.functional.one_hot(torch.tensor(end), model.config.vocab_size).float())
        sample = answers(modality, model, {"max_new_tokens": 5}, ["the cat"])["0"]
        assert (sample.response, sample.finished, sample.detail) == ("", True, {"length": 1.0})


def test_chat_prompts(tiny):
    """Messages are written by the template, and the answer is its bare text."""
    modality = TextModality(model=str(tiny))
    sample = answers(modality, modality.build(), {"max_new_tokens": 8}, [[{"role": "user", "content": "hello"}]])["0"]
    assert sample.response == sample.response.strip()
    assert "<|" not in sample.response


def test_the_model_is_left_as_it_was(tiny):
    """Training mode, gradient checkpointing and adapters are as before, also when the iterator is given up half-way."""
    modality = TextModality(model=str(tiny), lora=LoraSection(r=2, dropout=0.1), gradient_checkpointing=True, generation_batch=1)
    model = modality.build()
    modes = [part.training for part in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    running = modality.generate(model, [Request(str(n), "the cat", n, {"max_new_tokens": 3}) for n in range(3)])
    next(running)
    assert not model.training
    running.close()
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.get_base_model().is_activation_checkpointing


def test_settings_are_strict():
    """Every fault is named at once: unknown names with the nearest, values with what they must be."""
    with pytest.raises(ConfigError) as caught:
        GenerationSettings.read({"max_tokens": 5, "temprature": 1.0, "top_p": 2, "top_k": -1, "max_new_tokens": 0, "stop": [""]})
    said = str(caught.value)
    for part in (
        "Did you mean 'max_new_tokens'?",
        "Did you mean 'temperature'?",
        "top_p: 2",
        "top_k: -1",
        "max_new_tokens: 0",
        "stop: ['']",
    ):
        assert part in said
    assert GenerationSettings.read({"stop": "x"}).stop == ("x",)
    assert [
        GenerationSettings.read(given).samples
        for given in ({}, {"temperature": 1}, {"do_sample": True}, {"temperature": 1, "do_sample": False})
    ] == [
        False,
        True,
        True,
        False,
    ]


def test_batches_are_halved_where_memory_is_short(modality, model, monkeypatch):
    """A batch that does not fit is written in halves, with the same answers; a single answer that does not fit is an error."""
    expected = answers(modality, model, {"max_new_tokens": 4})
    sizes = []
    inner = generation._samples

    def cramped(model, encoder, jobs):
        sizes.append(len(jobs))
        if len(jobs) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(model, encoder, jobs)

    monkeypatch.setattr(generation, "_samples", cramped)
    assert answers(modality, model, {"max_new_tokens": 4}) == expected
    assert sizes == [4, 2, 1, 1, 2, 1, 1, 1]

    def full(model, encoder, jobs):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(generation, "_samples", full)
    with pytest.raises(MachineError, match="Lower max_new_tokens"):
        answers(modality, model, {"max_new_tokens": 4})
