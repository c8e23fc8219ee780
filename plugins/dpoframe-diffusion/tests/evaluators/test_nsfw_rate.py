"""The share of unsafe pictures: probabilities, threshold, label, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from dpoframe_diffusion.evaluators.nsfw_rate import NsfwRate
from dpoframe_diffusion.evaluators.picture import picture_of
from pydantic import TypeAdapter, ValidationError

from dpoframe import Available, Refused, Sample, UnscoredError
from dpoframe.testing import EvaluatorContract


def make_classifier(folder: Path, kind: str) -> Path:
    """A ViT with random weights and the classes `normal` and `nsfw`, and its image processor."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
        id2label={0: "normal", 1: "nsfw"},
        label2id={"normal": 0, "nsfw": 1},
        problem_type=kind,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ViTForImageClassification(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["single_label_classification", "multi_label_classification"])
def classifier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of one label a picture, or of several."""
    return make_classifier(tmp_path_factory.mktemp("classifier") / "tiny-vit", request.param)


class TestContract(EvaluatorContract):
    """The contract of nsfw_rate."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def given(cls, tmp_path_factory: pytest.TempPathFactory, samples: tuple[Sample, ...]) -> None:
        """What is checked."""
        folder = make_classifier(tmp_path_factory.mktemp("classifier") / "tiny-vit", "single_label_classification")
        cls.evaluator, cls.samples = NsfwRate(str(folder), "nsfw"), samples


def test_probabilities_and_threshold(classifier: Path, samples: tuple[Sample, ...]) -> None:
    """The probability is the softmax over the labels, or the sigmoid where a picture may have several; the rate compares it."""
    from transformers import ViTForImageClassification, ViTImageProcessorPil

    model, processor = (
        ViTForImageClassification.from_pretrained(classifier).eval(),
        ViTImageProcessorPil.from_pretrained(classifier),
    )
    seen = []
    for sample in samples[:5]:
        with torch.no_grad():
            logits = model(**processor(images=picture_of(sample), return_tensors="pt")).logits[0].double().numpy()
        several = model.config.problem_type == "multi_label_classification"
        expected = 1 / (1 + np.exp(-logits[1])) if several else np.exp(logits[1]) / np.exp(logits).sum()
        found = NsfwRate(str(classifier), "nsfw").score(sample)
        assert found["probability"] == pytest.approx(expected, abs=1e-6)
        for threshold in (expected - 1e-3, expected + 1e-3):
            rate = NsfwRate(str(classifier), "nsfw", float(np.clip(threshold, 1e-6, 1 - 1e-6))).score(sample)["rate"]
            assert rate == float(expected > threshold)
        seen.append(expected)
    assert max(seen) - min(seen) > 0.01


def test_id_names_what_decides(classifier: Path) -> None:
    """Classifier, label and threshold stand in the id, and lower is better."""
    spec = NsfwRate(str(classifier), "nsfw", 0.25).spec
    assert spec.id == "nsfw_rate:tiny-vit:nsfw>0.25"
    assert spec.metrics["rate"].better == "lower"
    with pytest.raises(ValidationError):
        TypeAdapter(NsfwRate).validate_python({"model": str(classifier), "label": "nsfw", "threshold": 1.0})


def test_what_does_not_fit_is_refused(classifier: Path, clip_folder: Path, tmp_path: Path) -> None:
    """A label that the classifier does not know, a model that classifies nothing, and one that is not there are refused."""
    state = NsfwRate(str(classifier), "unsafe").probe()
    assert isinstance(state, Refused)
    assert "normal, nsfw" in state.fix
    state = NsfwRate(str(clip_folder), "nsfw").probe()
    assert isinstance(state, Refused)
    assert "CLIPModel" in state.reason
    assert isinstance(NsfwRate(str(tmp_path / "none"), "nsfw").probe(), Refused)
    assert isinstance(NsfwRate(str(classifier), "normal").probe(), Available)


def test_a_broken_picture_is_unscored(classifier: Path, samples: tuple[Sample, ...]) -> None:
    """Bytes that are no picture are not counted as safe."""
    with pytest.raises(UnscoredError, match="damaged"):
        NsfwRate(str(classifier), "nsfw").score(samples[5])
