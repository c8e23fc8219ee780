"""Scores in which tokens that a pair shares count less: every switch against arithmetic in float64 that is written out."""

from __future__ import annotations

import itertools

import pytest
import torch
from dpoframe_text import logprobs, scoring
from dpoframe_text.differences import marks
from dpoframe_text.packing import pack, unpack
from dpoframe_text.scoring import DIFFERING, score_packed

NAMES = ("share_prompt", "padding_free", "response_only", "fused_head", "last_layer_skip")
COMBINATIONS = [dict(zip(NAMES, values, strict=True)) for values in itertools.product((True, False), repeat=5)]
TOLERANCE = 1e-5
WEIGHT = 0.3
PARTNERS = [5, 6, 7, 8, 9, 0, 1, 2, 3, 4]


@pytest.fixture
def edited(examples):
    """Five pairs whose rejected response is an edit of the chosen one: a token replaced, added, removed, all, none in common."""
    kind = type(examples[0])
    chosen = examples[:5]
    edits = [
        lambda ids: (*ids[:2], 4, *ids[3:]),
        lambda ids: (*ids, 5, 6),
        lambda ids: ids[1:],
        lambda ids: ids[::-1] + ids[:1],
        lambda ids: tuple((token + 20) % 58 + 3 for token in ids),
    ]
    return [*chosen, *(kind(one.prompt, edit(one.response)) for one, edit in zip(chosen, edits, strict=True))]


def _differs(examples, partners=PARTNERS):
    return marks([example.response for example in examples], partners)


def _batch(examples, partners=PARTNERS, share_prompt=True, padding_free=True):
    prompts = [example.prompt for example in examples]
    return pack(
        examples, prompts, partners, share_prompt=share_prompt, padding_free=padding_free, differs=_differs(examples, partners)
    )


def _score(model, examples, weight=WEIGHT, partners=PARTNERS, **options):
    layout = {name: options.pop(name) for name in ("share_prompt", "padding_free") if name in options}
    return score_packed(model, _batch(examples, partners, **layout), chunk=options.pop("chunk", 7), weight=weight, **options)


def _plain(plain_terms, model, examples, weight=WEIGHT):
    """Sums of w log p, one forward an example, in float64: w is 1 where the token differs."""
    found = []
    for terms, differs in zip(plain_terms(model, examples), _differs(examples), strict=True):
        weights = [1.0 if mark else weight for mark in differs[len(differs) - len(terms) :]]
        found.append(sum(w * term for w, term in zip(weights, terms, strict=True)))
    return torch.stack(found)


def _loss(values):
    reference = torch.linspace(-3, 3, 10, dtype=torch.float64)
    ratio = values - reference
    return -torch.nn.functional.logsigmoid(0.5 * (ratio[:5] - ratio[5:])).mean()


def _hint(values, index):
    full = torch.zeros(10, dtype=values.dtype).index_copy(0, index, values).requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(_loss(full) * 7, full)[0][index]


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "gemma2", "bloom"])
def test_every_combination_of_switches(family, make_model, edited, plain_terms, gradients) -> None:
    """Weighted scores, loss and every gradient equal the float64 sums with each of the 32 combinations of switches."""
    model = make_model(family)
    values = _plain(plain_terms, model, edited)
    loss = _loss(values)
    expected = gradients(model, loss)
    for switches in COMBINATIONS if family in ("llama", "qwen2") else COMBINATIONS[::5]:
        scores = _score(model, edited, hint=_hint, **switches)
        torch.testing.assert_close(scores.value, values, rtol=0, atol=TOLERANCE, msg=lambda m, s=switches: f"{s}: {m}")
        found = _loss(scores.value)
        assert abs(found.item() - loss.item()) < TOLERANCE, switches
        for name, gradient in gradients(model, found).items():
            assert (gradient - expected[name]).abs().max() <= TOLERANCE, (name, switches)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("chunk", [5, 7, 512])
def test_the_hint_is_taken(weight, chunk, make_model, edited, monkeypatch) -> None:
    """The hinted derivative of a row is its example's times the row's weight, so the head's gradient is never formed again."""
    factors, plain = [], logprobs.common_factor
    monkeypatch.setattr(logprobs, "common_factor", lambda *given: factors.append(plain(*given)) or factors[-1])
    model = make_model("llama")
    _loss(_score(model, edited, weight, hint=_hint, chunk=chunk).value).backward()
    assert factors == [pytest.approx(1 / 7, rel=1e-5)]


def test_a_hint_without_weights_is_refused(make_model, edited, gradients, monkeypatch) -> None:
    """A derivative that forgets the weights is not proportional to the true one, and is not used."""
    model = make_model("llama")
    right = gradients(model, _loss(_score(model, edited).value))
    whole = scoring._RowHint
    monkeypatch.setattr(scoring, "_RowHint", lambda batch, hint, weights: whole(batch, hint, None))
    factors, plain = [], logprobs.common_factor
    monkeypatch.setattr(logprobs, "common_factor", lambda *given: factors.append(plain(*given)) or factors[-1])
    for name, gradient in gradients(model, _loss(_score(model, edited, hint=_hint).value)).items():
        assert (gradient - right[name]).abs().max() <= TOLERANCE, name
    assert factors == [None]


def test_weights_of_one_and_zero(make_model, edited, plain_terms) -> None:
    """At 1 scores are the plain ones; at 0 those of the differing tokens alone, 0 where none differs. Lengths are tokens."""
    model = make_model("llama")
    terms = plain_terms(model, edited)
    with torch.no_grad():
        whole, none = _score(model, edited, 1.0), _score(model, edited, 0.0)
    torch.testing.assert_close(whole.value, torch.stack([one.sum() for one in terms]), rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(none.value, _plain(plain_terms, model, edited, 0.0), rtol=0, atol=TOLERANCE)
    assert none.value[1] == 0  # its partner is the same with two tokens more
    assert whole.length.tolist() == none.length.tolist() == [len(one) for one in terms]
    scored = [differs[len(differs) - len(one) :] for differs, one in zip(_differs(edited), terms, strict=True)]
    assert none.detail[DIFFERING].tolist() == [sum(one) for one in scored]


def test_details_beside_weights(make_model, edited, plain_terms) -> None:
    """`shared` is the weighted sum over the tokens up to the shorter length; `wpo` takes no weights."""
    model = make_model("llama")
    plain, weighted = (_score(model, edited, weight, details={"shared", "wpo"}) for weight in (None, WEIGHT))
    terms = plain_terms(model, edited)
    wanted = []
    for index, (own, differs) in enumerate(zip(terms, _differs(edited), strict=True)):
        count = min(len(own), len(terms[PARTNERS[index]]))
        weights = [1.0 if mark else WEIGHT for mark in differs[len(differs) - len(own) :]][:count]
        wanted.append(sum((w * term for w, term in zip(weights, own[:count], strict=True)), torch.zeros((), dtype=torch.float64)))
    torch.testing.assert_close(weighted.detail["shared"], torch.stack(wanted), rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(weighted.detail["wpo"], plain.detail["wpo"])
    assert DIFFERING not in plain.detail


def test_without_the_option_nothing_is_marked(make_model, edited) -> None:
    """A batch without marks has no weights, and one with marks is scored plainly where no weight is given."""
    model = make_model("llama")
    prompts = [example.prompt for example in edited]
    bare = pack(edited, prompts, PARTNERS, share_prompt=True, padding_free=True)
    assert bare.differs is None
    with torch.no_grad():
        assert torch.equal(score_packed(model, bare, weight=WEIGHT).value, score_packed(model, _batch(edited)).value)


def test_marks_follow_the_rows(edited) -> None:
    """Whatever the layout, and turned into padded rows, each scored token keeps its mark."""
    for share, flat in itertools.product((True, False), repeat=2):
        batch = _batch(edited, share_prompt=share, padding_free=flat)
        for one in (batch, unpack(batch), batch.to("cpu")):
            for example, start, stop in one.spans:
                whole = _differs(edited)[example]
                assert tuple(one.differs[start:stop].tolist()) == whole[len(whole) - (stop - start) :]


def test_bfloat16_keeps_the_weights(make_model, edited) -> None:
    """Under autocast weighted scores stay near the float32 ones: the weights themselves are never rounded."""
    model = make_model("llama")
    right = _score(model, edited).value
    with torch.autocast("cpu", torch.bfloat16):
        mixed = _score(model, edited, hint=_hint).value
    _loss(mixed).backward()
    assert mixed.dtype == torch.float64
    assert (mixed - right).abs().max() < 0.3
