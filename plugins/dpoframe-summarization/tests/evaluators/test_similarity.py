"""Vectors of summaries: the cosine itself, batches, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dpoframe_summarization.evaluators import encoders, similarity
from dpoframe_summarization.evaluators.example import EXAMPLES
from dpoframe_summarization.evaluators.similarity import Similarity

from dpoframe import Available, Refused, Sample, UnscoredError
from dpoframe.testing import EvaluatorContract


class TestWordllama(EvaluatorContract):
    """The contract of similarity by static vectors; skipped where wordllama is not installed."""

    evaluator = Similarity()
    samples = EXAMPLES


class TestEncoder(EvaluatorContract):
    """The contract of similarity by an encoder."""

    samples = EXAMPLES

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def given(cls, encoder: Path) -> None:
        """What is checked."""
        cls.evaluator = Similarity(str(encoder), "source")


def vector(folder: Path, text: str) -> np.ndarray:
    """The mean of the last hidden states of one text, computed without padding."""
    from transformers import AutoModel, AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt", truncation=True, max_length=32)
    with torch.no_grad():
        found = AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state[0].double().mean(0).numpy()
    return found / np.linalg.norm(found)


def test_cosine_of_means(encoder: Path, summary: Callable[..., Sample]) -> None:
    """Each cosine is that of the two texts alone, whatever they are padded to; the best reference counts."""
    texts = ["the cat sat", "a dog ran home on the red mat", "blue"]
    others = [["the cat slept"], ["a dog", "the dog ran home on the red bed ."], ["the " * 60]]
    found = Similarity(str(encoder)).score_batch([summary(text, references=one) for text, one in zip(texts, others, strict=True)])
    for text, one, score in zip(texts, others, found, strict=True):
        assert isinstance(score, dict)
        expected = max(float(vector(encoder, text) @ vector(encoder, other)) for other in one)
        assert score["cosine"] == pytest.approx(expected, abs=1e-5)


def test_static_vectors_order_meanings(summary: Callable[..., Sample]) -> None:
    """The same words are 1, a paraphrase is nearer than another subject."""
    pytest.importorskip("wordllama")
    good = "The council will build two new libraries in the city."
    texts = [good, "Two libraries are to be built in town, councillors decided.", "The striker scored twice on Sunday."]
    same, near, far = (Similarity().score(summary(text, reference=good))["cosine"] for text in texts)
    assert same == pytest.approx(1.0, abs=1e-6)
    assert near > far + 0.2


def test_against_the_source(encoder: Path, summary: Callable[..., Sample]) -> None:
    """The other side is the one that was asked for, and stands in the id."""
    sample = summary("the cat sat", source="the dog ran", reference="the cat sat")
    assert Similarity(str(encoder)).score(sample)["cosine"] == pytest.approx(1.0, abs=1e-6)
    assert Similarity(str(encoder), "source").score(sample)["cosine"] < 0.999
    assert Similarity(str(encoder), "source").spec.id == "similarity:tiny-bert:source"
    assert Similarity().spec.id == "similarity:wordllama:reference"


def test_texts_without_words_have_no_vector(encoder: Path, summary: Callable[..., Sample]) -> None:
    """An empty summary is unscored, alone and in a batch, where the others are scored."""
    with pytest.raises(UnscoredError, match="no words"):
        Similarity(str(encoder)).score(summary("?!", reference="the cat"))
    found = Similarity(str(encoder)).score_batch([summary("\u200b", reference="the cat"), summary("cat", reference="cat")])
    assert isinstance(found[0], UnscoredError)
    assert isinstance(found[1], dict)
    assert Similarity(str(encoder)).score_batch([summary("", reference="x")])[0] is not None


def test_what_is_not_here_is_refused(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is none, a model that was never fetched, a library that is missing: each with its fix."""
    assert isinstance(Similarity(str(encoder)).probe(), Available)
    state = Similarity(str(tmp_path)).probe()
    assert isinstance(state, Refused)
    assert "config.json" in state.reason
    for file in encoder.iterdir():
        (tmp_path / file.name.replace("model.safetensors", "pytorch_model.bin")).write_bytes(file.read_bytes())
    state = Similarity(str(tmp_path)).probe()
    assert isinstance(state, Refused)
    assert "pickles" in state.reason
    state = Similarity("nobody/never-fetched").probe()
    assert isinstance(state, Refused)
    assert "hf download nobody/never-fetched" in state.fix
    assert Similarity("nobody/never-fetched").spec.assets == ()
    monkeypatch.setattr(similarity.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    state = Similarity().probe()
    assert isinstance(state, Refused)
    assert "dpoframe-summarization[similarity]" in state.fix


def test_other_weights_are_other_results(encoder: Path, tmp_path: Path) -> None:
    """The digest of the weights is an asset, so numbers of a changed model are not taken for these."""
    from safetensors.torch import load_file, save_file

    for file in encoder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert Similarity(str(tmp_path)).spec.assets[0].digest == Similarity(str(encoder)).spec.assets[0].digest
    state = load_file(tmp_path / "model.safetensors")
    save_file({name: one + 0.01 for name, one in state.items()}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert Similarity(str(tmp_path)).spec.assets[0].digest != Similarity(str(encoder)).spec.assets[0].digest


def test_texts_of_like_length_go_together(encoder: Path, monkeypatch: pytest.MonkeyPatch, summary: Callable[..., Sample]) -> None:
    """Texts go to the encoder from the longest to the shortest, so that few are padded, and come back in their order."""
    monkeypatch.setattr(encoders, "_AT_ONCE", 2)
    widths: list[int] = []
    plain = similarity._means

    def watched(outputs: Any, inputs: Any) -> list[Any]:
        widths.append(inputs["input_ids"].shape[1])
        return plain(outputs, inputs)

    monkeypatch.setattr(similarity, "_means", watched)
    given = [summary("the cat sat " * length, reference="dog " * length) for length in (1, 6, 2)]
    found = Similarity(str(encoder)).score_batch(given)
    assert widths == sorted(widths, reverse=True)
    assert len(widths) == 3
    monkeypatch.undo()
    assert found == [pytest.approx(Similarity(str(encoder)).score(one), abs=1e-6) for one in given]
