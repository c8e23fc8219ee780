"""The classifier keeps the contract of modalities, and its scores are the log-probabilities that transformers' own logits give."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar
from unittest import mock

import numpy as np
import pytest
import torch
from dpoframe_moderation.classifier.adapters import LoraSection
from dpoframe_moderation.classifier.modality import TextClassifier
from pydantic import TypeAdapter, ValidationError

from dpoframe import ConfigError, DataError, Example, PreferencePair, losses
from dpoframe.testing import ModalityContract
from dpoframe.types import PairScores

from .conftest import LABELS

PAIRS = (
    PreferencePair("i hate all people", "hate", "not hate", "hate"),
    PreferencePair("have a nice day", "not unsafe", "unsafe", "nice"),
    PreferencePair("i will hurt you all the day", "violence\nunsafe\nnot hate", "not violence\nnot unsafe\nhate", "all"),
    PreferencePair("have a nice day", "not hate", "hate", "nice-hate"),
)
SINGLE = (
    PreferencePair("i hate all people", "hate", "safe", "hate"),
    PreferencePair("have a nice day", "safe", "violence", "nice"),
)


class TestEncoder(ModalityContract):
    """All weights of an encoder trained."""

    pairs = PAIRS
    settings: ClassVar = {"threshold": 0.4}


class TestDecoder(ModalityContract):
    """Adapters and the head on a decoder."""

    pairs = PAIRS


class TestHead(ModalityContract):
    """The head alone, texts cut to their ends."""

    pairs = PAIRS


class TestSingle(ModalityContract):
    """Labels that exclude each other."""

    pairs = SINGLE


@pytest.fixture(autouse=True, scope="module")
def _modalities(encoder, decoder):
    """The models' folders are made at run time, so the contracts get their modalities here."""
    TestEncoder.modality = TextClassifier(str(encoder), LABELS)
    TestDecoder.modality = TextClassifier(str(decoder), LABELS, lora=LoraSection(r=4))
    TestHead.modality = TextClassifier(str(encoder), LABELS, head_only=True, truncate="keep_end", max_length=6)
    TestSingle.modality = TextClassifier(str(encoder), ("safe", "hate", "violence"), multi_label=False)


def examples(pairs):
    """Chosen, then rejected."""
    return [Example(pair.prompt, getattr(pair, side), 0, pair.id) for side in ("chosen", "rejected") for pair in pairs]


def sigmoid(value):
    """1 / (1 + e^-x), in float64."""
    return 1 / (1 + np.exp(-np.asarray(value, dtype=np.float64)))


@pytest.mark.parametrize("family", ["encoder", "decoder"])
def test_scores_are_log_probabilities(family, request):
    """A score is log s(x) of a label's logit, log s(-x) of its denial, and sums over lines; logits are those of one text alone."""
    from transformers import AutoTokenizer

    folder = str(request.getfixturevalue(family))
    modality = TextClassifier(folder, LABELS)
    model, tokenizer = modality.build().eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        logits = [model(**tokenizer(pair.prompt, return_tensors="pt")).logits[0].double().numpy() for pair in PAIRS]
        found = modality.score(model, modality.collate(examples(PAIRS)))
    hate, nice, both, other = logits
    chosen = [
        np.log(sigmoid(hate[1])),
        np.log(sigmoid(-nice[0])),
        np.log(sigmoid(both[2]) * sigmoid(both[0]) * sigmoid(-both[1])),
        np.log(sigmoid(-other[1])),
    ]
    rejected = [
        np.log(sigmoid(-hate[1])),
        np.log(sigmoid(nice[0])),
        np.log(sigmoid(-both[2]) * sigmoid(-both[0]) * sigmoid(both[1])),
        np.log(sigmoid(other[1])),
    ]
    np.testing.assert_allclose(found.value.numpy(), chosen + rejected, rtol=1e-5, atol=1e-6)
    assert found.length.tolist() == [1, 1, 3, 1, 1, 1, 3, 1]


def test_single_labels_are_a_softmax(encoder):
    """Of labels that exclude each other the score is the log of the softmax, whose probabilities add up to 1."""
    labels = ("safe", "hate", "violence")
    modality = TextClassifier(str(encoder), labels, multi_label=False)
    model = modality.build()
    batch = modality.collate([Example("i hate you", label, 0, "a") for label in labels])
    with torch.no_grad():
        found = modality.score(model, batch).value.numpy()
        logits = model(**batch.inputs).logits[0].double().numpy()
    np.testing.assert_allclose(found, logits - np.log(np.exp(logits).sum()), rtol=1e-6)
    assert math.isclose(np.exp(found).sum(), 1, rel_tol=1e-9)


def test_one_forward_a_text(encoder):
    """Right and wrong label and several categories of a text are scored by one forward of one row."""
    modality = TextClassifier(str(encoder), LABELS)
    batch = modality.collate(examples(PAIRS))
    assert batch.inputs["input_ids"].shape[0] == 3
    model = modality.build()
    with mock.patch.object(model, "forward", wraps=model.forward) as forward, torch.no_grad():
        modality.score(model, batch)
    assert forward.call_count == 1


@pytest.mark.parametrize("switches", [{}, {"lora": LoraSection(r=4)}, {"head_only": True}])
def test_it_begins_at_the_reference(encoder, switches):
    """At step 0 all margins are exactly 0 and DPO's loss is ln 2: the reference has the same fresh head."""
    import copy

    modality = TextClassifier(str(encoder), LABELS, **switches)
    policy = modality.build()
    reference = copy.deepcopy(policy).eval()
    batch = modality.collate(examples(PAIRS))
    with torch.no_grad():
        own, other = modality.score(policy, batch), modality.score(reference, batch)
        if "lora" in switches:
            policy.eval()
            with modality.without_adapter(policy):
                torch.testing.assert_close(modality.score(policy, batch).value, own.value, rtol=0, atol=0)
    assert torch.equal(own.value, other.value)
    loss = losses.create("sigmoid", beta=0.1)(PairScores.from_scores(own, other))
    np.testing.assert_allclose(loss.numpy(), math.log(2), rtol=1e-12)


def test_the_head_follows_its_seed(encoder):
    """Equal seeds draw equal heads, whatever torch's global state; other seeds others."""
    heads = []
    for seed, around in ((0, 1), (0, 2), (1, 1)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(around)
            heads.append(TextClassifier(str(encoder), LABELS, head_seed=seed).build().classifier.weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


@pytest.mark.parametrize("family", ["encoder", "decoder"])
@pytest.mark.parametrize(
    ("switches", "trained"),
    [
        ({}, {"layer", "HEAD"}),
        ({"head_only": True}, {"HEAD"}),
        ({"lora": LoraSection(r=2, top_layers=1)}, {"lora", "modules_to_save"}),
        ({"top_layers": 1}, {".1.", "ABOVE", "HEAD"}),
    ],
)
def test_what_is_trained(family, switches, trained, request):
    """Everything, the head alone, or it and adapters or layers: no others than were asked for, and what stands on them."""
    model = TextClassifier(str(request.getfixturevalue(family)), LABELS, **switches).build()
    head, above = {"encoder": ("classifier", "pooler"), "decoder": ("score", "model.norm")}[family]
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    wanted = {{"HEAD": head, "ABOVE": above}.get(part, part) for part in trained}
    assert all(any(part in name for name in names) for part in wanted)
    if switches:
        assert all(any(part in name for part in wanted) for name in names)
        assert all(".1." in name for name in names if "lora" in name)
    else:
        assert len(names) == len(list(model.parameters()))


def test_training_learns(encoder):
    """Plain gradient steps on DPO's loss prefer the right labels in the end."""
    import copy

    modality = TextClassifier(str(encoder), LABELS, lora=LoraSection(r=4))
    policy = modality.build()
    reference = copy.deepcopy(policy).eval().requires_grad_(False)
    batch = modality.collate(examples(PAIRS))
    optimizer = torch.optim.Adam([part for part in policy.parameters() if part.requires_grad], lr=0.01)
    loss = losses.create("sigmoid", beta=0.5)
    for _ in range(60):
        scores = PairScores.from_scores(modality.score(policy, batch), modality.score(reference, batch))
        optimizer.zero_grad()
        loss(scores).mean().backward()
        optimizer.step()
    half = len(PAIRS)
    with torch.no_grad():
        value = modality.score(policy, batch).value
    assert bool((value[:half] > value[half:]).all())


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ("hatred", r"pair-7 names 'hatred', which is no label.*Did you mean 'hate'"),
        ("not spam", r"pair-7 names 'not spam', which is no label.*unsafe, hate, violence"),
        ("hate\nnot hate", "pair-7 says too much"),
        ("  \n", "pair-7 names no label"),
    ],
)
def test_labels_outside_the_taxonomy(encoder, response, said):
    """A response that names no label of the head, or one twice, is a DataError that names it; `measure` tells before training."""
    modality = TextClassifier(str(encoder), LABELS)
    example = Example("have a day", response, 0, "pair-7")
    for ask in (modality.measure, lambda one: modality.collate([one])):
        with pytest.raises(DataError, match=said):
            ask(example)


def test_labels_in_other_spellings(encoder):
    """Case, blanks and hyphens of a label make no difference."""
    modality = TextClassifier(str(encoder), ("unsafe", "self-harm"))
    same = {modality.measure(Example("a", said, 0, "p")).response_digest for said in ("not self-harm", " NOT  Self harm ")}
    assert len(same) == 1


@pytest.mark.parametrize("labels", [("hate", "Hate"), ("not hate",), ("hate\nviolence",), ("",)])
def test_labels_that_cannot_be_told_apart(encoder, labels):
    """Labels that a response could not name are refused when the modality is made."""
    with pytest.raises(ConfigError, match="cannot be used"):
        TextClassifier(str(encoder), labels)


def test_labels_of_a_taxonomy(encoder):
    """A taxonomy's name stands for the verdict and its categories; one that excludes has `safe` and a softmax."""
    several, one = TextClassifier(str(encoder), "openai").fingerprint(), TextClassifier(str(encoder), "davidson").fingerprint()
    assert several["labels"] == [
        "unsafe", "sexual", "hate", "violence", "harassment", "self-harm", "sexual/minors", "hate/threatening", "violence/graphic",
    ]  # fmt: skip
    assert several["multi_label"]
    assert (one["labels"], one["multi_label"]) == (["safe", "hate", "offensive language"], False)
    with pytest.raises(ConfigError, match="Did you mean 'openai'"):
        TextClassifier(str(encoder), "opnai").build()


def test_recipe_keys(encoder):
    """A recipe's mapping becomes the modality; unknown keys and values of the wrong kind are refused."""
    reader = TypeAdapter(TextClassifier)
    given = {"model": str(encoder), "labels": ["unsafe", "hate"], "lora": {"r": 8}, "thresholds": {"hate": 0.3}}
    made = reader.validate_python(given)
    assert made == TextClassifier(str(encoder), ("unsafe", "hate"), lora=LoraSection(r=8), thresholds={"hate": 0.3})
    for wrong in ({"modle": "x"}, {"truncate": "middle"}, {"lora": {"rank": 1}}, {"max_length": "long"}, {"threshold": 2}):
        with pytest.raises(ValidationError):
            reader.validate_python({**given, **wrong})


def test_values_that_cannot_be_are_named_together():
    """Every impossible value is named in one error."""
    with pytest.raises(ValueError, match=r"max_length is 0.*lora and head_only exclude.*lora.r is 0.*threshold"):
        TextClassifier("x", max_length=0, lora=LoraSection(r=0), head_only=True, threshold=1.5)


def test_more_top_layers_than_there_are(encoder):
    """Layers that a model does not have are refused with their number; `lora` has a key of its own for them."""
    with pytest.raises(ConfigError, match="top_layers is 3, and the model has 2 layers"):
        TextClassifier(str(encoder), LABELS, top_layers=3).build()
    with pytest.raises(ValueError, match=r"top_layers goes with neither lora \(which has lora.top_layers\) nor head_only"):
        TextClassifier("x", top_layers=1, lora=LoraSection())


def test_every_field_is_documented():
    """The docstring, which is the recipe's reference, names every key."""
    for part in (TextClassifier, LoraSection):
        for field in dataclasses.fields(part):
            assert f"\n        {field.name}: " in str(part.__doc__), field.name


def test_fingerprint(encoder):
    """What changes scores or answers changes the fingerprint; how it is trained does not."""
    modality = TextClassifier(str(encoder), LABELS)
    for same in ({"lora": LoraSection()}, {"head_only": True}, {"generation_batch": 1}, {"merge_on_save": True}):
        assert dataclasses.replace(modality, **same).fingerprint() == modality.fingerprint(), same
    changes = ({"max_length": 5}, {"truncate": "keep_end"}, {"clean": False}, {"labels": LABELS[::-1]}, {"threshold": 0.4})
    for other in changes:
        assert dataclasses.replace(modality, **other).fingerprint() != modality.fingerprint(), other


def test_dropout_is_off_in_training(made, tmp_path):
    """A model with dropout in its configuration scores the same twice in training mode."""
    folder = made(tmp_path / "model", "bert", "Model", hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)
    modality = TextClassifier(str(folder), LABELS)
    model, batch = modality.build(), modality.collate(examples(PAIRS))
    assert model.training
    with torch.no_grad():
        assert torch.equal(modality.score(model, batch).value, modality.score(model, batch).value)
