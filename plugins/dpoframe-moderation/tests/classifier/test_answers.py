"""Verdicts from probabilities and thresholds, in the words that moderators' answers are read by."""

from __future__ import annotations

import pytest
import torch
from dpoframe_moderation.classifier.answers import Answering
from dpoframe_moderation.classifier.labels import Labels
from dpoframe_moderation.classifier.modality import TextClassifier
from dpoframe_moderation.taxonomy import taxonomy
from dpoframe_moderation.verdicts import parse

from dpoframe import ConfigError, Request

from .conftest import LABELS

SEVERAL = Labels(("unsafe", "hate", "self-harm"))
SINGLE = Labels(("safe", "hate", "offensive language"), multi=False)


@pytest.mark.parametrize(
    ("probabilities", "way", "expected"),
    [
        ((0.4, 0.1, 0.2), Answering(), "safe"),
        ((0.5, 0.1, 0.2), Answering(), "unsafe"),
        ((0.9, 0.8, 0.5), Answering(), "unsafe\nhate, self-harm"),
        ((0.4, 0.6, 0.2), Answering(), "unsafe\nhate"),
        ((0.4, 0.1, 0.2), Answering(thresholds={"Self harm": 0.2}), "unsafe\nself-harm"),
        ((0.9, 0.8, 0.5), Answering(0.95, {"hate": 0.7}), "unsafe\nhate"),
        ((0.9, 0.8, 0.5), Answering(0.95), "safe"),
    ],
)
def test_verdicts_of_several_labels(probabilities, way, expected):
    """A text is unsafe where a label reaches its threshold, and those that do are named."""
    assert way.verdict(probabilities, SEVERAL, ("safe",)) == expected


@pytest.mark.parametrize(
    ("probabilities", "threshold", "expected"),
    [
        ((0.6, 0.3, 0.1), 0.5, "safe"),
        ((0.45, 0.3, 0.25), 0.5, "unsafe\nhate"),
        ((0.6, 0.1, 0.3), 0.4, "unsafe\noffensive language"),
    ],
)
def test_verdicts_of_single_labels(probabilities, threshold, expected):
    """A text is unsafe where all labels that are not safe reach the threshold together; the likeliest is named."""
    assert Answering(threshold).verdict(probabilities, SINGLE, ("safe",)) == expected


def test_answers_are_read_as_they_are_meant():
    """The reader of moderators' answers finds in every answer the verdict and exactly the categories that apply."""
    known = taxonomy("openai")
    labels = Labels(("unsafe", *known.categories.values()))
    for key, words in known.categories.items():
        chances = [0.9, *(0.9 if name == words else 0.1 for name in labels.names[1:])]
        found = parse(Answering().verdict(chances, labels, ("safe",)), known)
        assert (found.verdict, found.categories, found.problem) == ("unsafe", {key}, "")
    assert parse(Answering().verdict([0.1] * 9, labels, ("safe",)), known).verdict == "safe"


@pytest.mark.parametrize("family", ["encoder", "decoder"])
def test_probabilities_of_answers(family, request):
    """A sample tells every label's probability: s of the logit of transformers, whatever else is in the batch."""
    modality = TextClassifier(str(request.getfixturevalue(family)), LABELS, generation_batch=2)
    model = modality.build().eval()
    texts = ["i hate you", "have a nice day you all", "a dog"]
    samples = {sample.id: sample for sample in modality.generate(model, [Request(text, text) for text in texts])}
    for text in texts:
        ids = modality._encoder.encode([text])[0].ids
        with torch.no_grad():
            expected = model(torch.tensor([ids])).logits[0].double().sigmoid().tolist()
        detail = samples[text].detail
        assert [detail[f"p/{name}"] for name in LABELS] == pytest.approx(expected, abs=1e-6)
        named = {name for name, value in zip(LABELS, expected, strict=True) if value >= 0.5}
        assert (samples[text].response == "safe") == (not named)


def test_settings(encoder):
    """A request's thresholds win over the recipe's; a language model's settings change nothing; wrong ones are all named."""
    modality = TextClassifier(str(encoder), LABELS, threshold=1.0)
    model = modality.build().eval()
    assert not modality.check_generation({"max_new_tokens": 8, "temperature": 0.7, "threshold": 0.1})
    (low,) = modality.generate(model, [Request("a", "a dog", settings={"threshold": 0.0, "max_new_tokens": 8})])
    (high,) = modality.generate(model, [Request("a", "a dog")])
    assert (low.response, high.response) == ("unsafe\nhate, violence", "safe")
    with pytest.raises(
        ConfigError, match=r"(?s)treshold: no such setting.*Did you mean 'threshold'.*thresholds\.hate: 3 was given"
    ):
        modality.check_generation({"treshold": 0.3, "thresholds": {"hate": 3}})
    with pytest.raises(ConfigError, match=r"thresholds\.spam: no such label"):
        list(modality.generate(model, [Request("a", "a dog", settings={"thresholds": {"spam": 0.3}})]))
