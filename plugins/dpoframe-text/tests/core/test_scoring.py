"""Scores, loss and gradients: every switch against one plain forward an example."""

from __future__ import annotations

import itertools
import threading

import pytest
import torch
from dpoframe_text.heads import take_apart
from dpoframe_text.packing import pack
from dpoframe_text.scoring import score_packed
from dpoframe_text.support import direct, reason

SWITCHES = {
    "share_prompt": (True, False),
    "padding_free": (True, False),
    "response_only": (True, False),
    "fused_head": (True, False),
    "last_layer_skip": (True, False),
}
COMBINATIONS = [dict(zip(SWITCHES, values, strict=True)) for values in itertools.product(*SWITCHES.values())]
TOLERANCE = 1e-5

# peft still reads a property of transformers under its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def _loss(values, partners):
    """Mean sigmoid loss of the margins against a fixed reference."""
    half = len(partners) // 2
    reference = torch.linspace(-3, 3, len(partners), dtype=torch.float64)
    ratio = values - reference
    return -torch.nn.functional.logsigmoid(0.5 * (ratio[:half] - ratio[half:])).mean()


def _hint(partners):
    def hint(values, index):
        assert {partners[one] for one in index.tolist()} == set(index.tolist())
        full = torch.zeros(len(partners), dtype=values.dtype).index_copy(0, index, values).requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(_loss(full, partners) * 7, full)[0][index]

    return hint


def _score(model, examples, partners, share_prompt=True, padding_free=True, **options):
    keys = [example.prompt for example in examples]
    batch = pack(examples, keys, partners, share_prompt=share_prompt, padding_free=padding_free)
    return score_packed(model, batch, chunk=7, **options)


def _lora(model, **options):
    from peft import LoraConfig, get_peft_model

    targets = [name for name in ("q_proj", "v_proj", "down_proj", "c_attn") if any(name in n for n, _ in model.named_modules())]
    fan = {"fan_in_fan_out": True} if "c_attn" in targets else {}
    model = get_peft_model(
        model, LoraConfig(r=2, lora_dropout=0.0, target_modules=options.pop("targets", targets), **fan, **options)
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
    return model


def _check(model, examples, partners, plain_terms, gradients, combinations) -> None:
    values = torch.stack([terms.sum() for terms in plain_terms(model, examples)])
    loss = _loss(values, partners)
    expected = gradients(model, loss)
    for switches in combinations:
        scores = _score(model, examples, partners, hint=_hint(partners), **switches)
        found = _loss(scores.value, partners)
        torch.testing.assert_close(scores.value, values, rtol=0, atol=TOLERANCE, msg=lambda m, s=switches: f"{s}: {m}")
        assert abs(found.item() - loss.item()) < TOLERANCE, switches
        for name, gradient in gradients(model, found).items():
            assert (gradient - expected[name]).abs().max() <= TOLERANCE, (name, switches)


@pytest.mark.parametrize("family", ["llama", "llama-tied", "qwen2", "qwen3", "mistral", "gpt2", "gemma"])
def test_every_combination_of_switches(family, make_model, examples, partners, plain_terms, gradients) -> None:
    """Scores, loss and every gradient equal the plain ones with each of the 32 combinations of switches."""
    model = make_model(family)
    parts = take_apart(model)
    assert parts is not None
    assert reason(parts) is None
    assert direct(parts) == (family not in ("gpt2", "gemma"))
    _check(model, examples, partners, plain_terms, gradients, COMBINATIONS)


@pytest.mark.parametrize("family", ["gemma2", "granite", "cohere", "bloom", "mamba"])
def test_models_that_need_another_path(family, make_model, examples, partners, plain_terms, gradients) -> None:
    """Soft-capped or scaled logits, ALiBi and recurrent layers fall back by themselves and stay right."""
    model = make_model(family)
    parts = take_apart(model)
    assert parts is not None
    assert (reason(parts) is None) == (family in ("granite", "cohere"))
    assert parts.plain == (family in ("bloom", "mamba"))
    _check(model, examples, partners, plain_terms, gradients, COMBINATIONS[::5])


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_adapters(family, make_model, examples, partners, plain_terms, gradients) -> None:
    """With LoRA the scores are the adapted model's, only the adapter has gradients, and it can be switched off."""
    model = _lora(make_model(family))
    _check(model, examples, partners, plain_terms, gradients, COMBINATIONS[::3])
    with model.disable_adapter(), torch.no_grad():
        plain = torch.stack([terms.sum() for terms in plain_terms(model, examples)])
        torch.testing.assert_close(_score(model, examples, partners).value, plain, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("options", [{"targets": ["q_proj", "lm_head"]}, {"modules_to_save": ["lm_head"]}])
def test_a_head_that_the_adapter_changes(options, make_model, examples, partners, plain_terms, gradients) -> None:
    """A LoRA head and a trained copy of the head are called as modules."""
    model = _lora(make_model("llama"), **options)
    parts = take_apart(model)
    assert parts is not None
    assert not parts.plain
    _check(model, examples, partners, plain_terms, gradients, COMBINATIONS[::3])


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
def test_gradient_checkpointing(family, reentrant, make_model, examples, partners, plain_terms, gradients) -> None:
    """Layers that are computed again in the backward see the segments again."""
    model = make_model(family)
    values = torch.stack([terms.sum() for terms in plain_terms(model, examples)])
    expected = gradients(model, _loss(values, partners))
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    for skip in (True, False):
        scores = _score(model, examples, partners, hint=_hint(partners), last_layer_skip=skip)
        for name, gradient in gradients(model, _loss(scores.value, partners)).items():
            assert (gradient - expected[name]).abs().max() <= TOLERANCE, name


@pytest.mark.parametrize("padding_free", [True, False])
def test_details(padding_free, make_model, examples, partners, plain_terms, gradients) -> None:
    """`shared` sums the first min(length) tokens and has its gradient; `wpo` is the mean of log p_t - log sum p^2."""
    model = make_model("llama")
    terms = plain_terms(model, examples)
    lengths = [len(one) for one in terms]
    shared = torch.stack([one[: lengths[partner]].sum() for one, partner in zip(terms, partners, strict=True)])
    scores = _score(model, examples, partners, padding_free=padding_free, details={"shared", "wpo"}, hint=_hint(partners))
    assert scores.length.tolist() == lengths
    torch.testing.assert_close(scores.detail["shared"], shared, rtol=0, atol=TOLERANCE)
    expected = gradients(model, _loss(0.7 * shared + torch.stack([one.sum() for one in terms]), partners))
    for name, gradient in gradients(model, _loss(0.7 * scores.detail["shared"] + scores.value, partners)).items():
        assert (gradient - expected[name]).abs().max() <= TOLERANCE, name
    assert not scores.detail["wpo"].requires_grad
    for index in (0, 9):
        example = examples[index]
        with torch.no_grad():
            logits = model(torch.tensor([example.prompt + example.response])).logits[0].double()
        p = logits.softmax(-1)[len(example.prompt) - 1 : -1]
        weight = terms[index].detach() - p.square().sum(-1).log()
        assert abs(scores.detail["wpo"][index].item() - weight.mean().item()) < TOLERANCE


def test_without_partners_there_is_nothing_to_share(make_model, examples) -> None:
    """Examples that stand alone have their whole score as `shared`."""
    scores = _score(make_model("llama"), examples, [None] * len(examples), details={"shared"})
    assert torch.equal(scores.detail["shared"], scores.value)


def test_a_wrong_hint_changes_nothing(make_model, examples, partners, gradients) -> None:
    """Gradients with a hint of another loss equal those without."""
    model = make_model("llama")
    right = gradients(model, _loss(_score(model, examples, partners).value, partners))
    scores = _score(model, examples, partners, hint=lambda values, index: values * 0 + index)
    for name, gradient in gradients(model, _loss(scores.value, partners)).items():
        assert (gradient - right[name]).abs().max() <= TOLERANCE, name


def test_a_real_model(stories, examples, partners, plain_terms, gradients) -> None:
    """Scores and gradients of a trained model (tied head) equal the plain ones."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(stories, dtype=torch.float32).train()
    _check(model, examples, partners, plain_terms, gradients, COMBINATIONS[::7])


def test_bfloat16(make_model, examples, partners) -> None:
    """Under autocast and with bfloat16 weights the scores stay near the float32 ones, and gradients flow."""
    model = make_model("llama")
    right = _score(model, examples, partners).value
    with torch.autocast("cpu", torch.bfloat16):
        mixed = _score(model, examples, partners, hint=_hint(partners)).value
    _loss(mixed, partners).backward()
    low = _score(model.bfloat16(), examples, partners).value
    assert (mixed - right).abs().max() < 0.3
    assert (low - right).abs().max() < 0.5


def test_threads_and_two_models_do_not_mix(make_model, examples, partners) -> None:
    """Two models scored at the same time with different layouts give what they give one after the other."""
    models = [make_model("qwen2"), make_model("gpt2")]
    jobs = list(itertools.product(models, (True, False), (True, False)))
    with torch.no_grad():
        right = [_score(m, examples, partners, share_prompt=share, last_layer_skip=skip).value for m, share, skip in jobs]
    found: dict[int, torch.Tensor] = {}

    def work(number: int) -> None:
        model, share, skip = jobs[number]
        with torch.no_grad():
            found[number] = _score(model, examples, partners, share_prompt=share, last_layer_skip=skip).value

    workers = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(torch.allclose(found[number], right[number], rtol=0, atol=TOLERANCE) for number in range(len(jobs)))


def test_the_probe_leaves_training_mode_and_random_state_alone(make_model) -> None:
    """Looking a model over changes neither dropout modes nor the random state."""
    model = make_model("llama")
    model.model.layers[0].mlp.eval()
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    parts = take_apart(model)
    assert parts is not None
    assert reason(parts) is None
    assert direct(parts)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def test_prompt_learning_adapters_take_the_plain_path(make_model) -> None:
    """Virtual tokens change what a position is: such a model is not taken apart."""
    from peft import PromptTuningConfig, get_peft_model

    model = get_peft_model(make_model("llama"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    assert take_apart(model) is None


def test_a_hint_covers_whole_pairs_even_where_one_has_nothing_to_score(make_model, examples, partners, gradients) -> None:
    """An example without rows belongs to its partner's tile, with the value 0."""
    kind = type(examples[0])
    given = [kind((), (5,)), kind((7, 8), (9, 10)), kind((), (6, 7, 8)), kind((7, 8), (4,))]
    others = [2, 3, 0, 1]
    model = make_model("llama")
    right = gradients(model, _loss(_score(model, given, others).value, others))
    scores = _score(model, given, others, hint=_hint(others))
    assert scores.length.tolist() == [0, 2, 2, 1]
    assert scores.value[0] == 0
    for name, gradient in gradients(model, _loss(scores.value, others)).items():
        assert (gradient - right[name]).abs().max() <= TOLERANCE, name


@pytest.mark.parametrize(("length", "calls"), [(9, 1), (40, 0)])
def test_a_pair_too_long_for_the_memory_is_scored_without_the_hint(length, calls, make_model, gradients, examples) -> None:
    """The hint is asked where a pair's logits fit into four chunks; beyond that the gradient is the recomputed one."""
    kind, asked = type(examples[0]), []
    given = [kind((5, 6), tuple(range(3, 3 + length))), kind((5, 6), tuple(range(9, 9 + length)))]
    model = make_model("llama")
    right = gradients(model, _loss(_score(model, given, [1, 0]).value, [1, 0]))

    def hint(values, index):
        asked.append(index)
        return _hint([1, 0])(values, index)

    scores = _score(model, given, [1, 0], hint=hint)
    assert len(asked) == calls
    for name, gradient in gradients(model, _loss(scores.value, [1, 0])).items():
        assert (gradient - right[name]).abs().max() <= TOLERANCE, name
