"""BERTScore against its definition, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from dpoframe_summarization.evaluators.bertscore import BertScore
from dpoframe_summarization.evaluators.example import EXAMPLES
from pydantic import TypeAdapter, ValidationError

from dpoframe import Available, Refused, Sample, UnscoredError
from dpoframe.testing import EvaluatorContract


class TestContract(EvaluatorContract):
    """The contract of bertscore."""

    samples = EXAMPLES

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def given(cls, encoder: Path) -> None:
        """What is checked."""
        cls.evaluator = BertScore(str(encoder), 2)


def by_definition(folder: Path, layer: int, text: str, reference: str) -> tuple[float, float, float]:
    """Equation 1 of the paper on the unit vectors of a layer: F, precision, recall; the two marks around a text take no part."""
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    def vectors(one: str) -> torch.Tensor:
        inputs = tokenizer(one, return_tensors="pt", truncation=True, max_length=32)
        with torch.no_grad():
            hidden = model(**inputs, output_hidden_states=True).hidden_states[layer][0, 1:-1].double()
        return hidden / hidden.norm(dim=-1, keepdim=True)

    cosines = vectors(text) @ vectors(reference).T
    precision, recall = float(cosines.max(1).values.mean()), float(cosines.max(0).values.mean())
    return 2 * precision * recall / (precision + recall), precision, recall


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_definition(layer: int, encoder: Path, summary: Callable[..., Sample]) -> None:
    """The figures of each summary are those of the definition, on texts of unequal lengths, one of them too long."""
    pairs = [
        ("the cat sat", "a cat slept on the mat ."),
        ("a dog ran home on the red mat , not blue", "dog"),
        ("the " * 50, "the bed"),
    ]
    for text, other in pairs:
        found = BertScore(str(encoder), layer).score(summary(text, reference=other))
        expected = by_definition(encoder, layer, text, other)
        assert [found[name] for name in ("f1", "precision", "recall")] == pytest.approx(expected, abs=1e-5)


def test_the_best_reference_counts(encoder: Path, summary: Callable[..., Sample]) -> None:
    """A summary that equals one of its references is perfect."""
    found = BertScore(str(encoder), 1).score(summary("the cat sat", references=["a dog", "the cat sat", "red"]))
    assert list(found.values()) == pytest.approx([1.0] * 3, abs=1e-5)


def test_ids_and_refusals(encoder: Path, tmp_path: Path) -> None:
    """Model and layer stand in the id, torchmetrics in the assets; a missing model, no layer and too high a layer are refused."""
    spec = BertScore(str(encoder), 2).spec
    assert spec.id == "bertscore:tiny-bert:layer-2"
    assert [one.name.split()[0] for one in spec.assets] == ["tiny-bert", "torchmetrics"]
    assert BertScore().spec.id == "bertscore:roberta-large:layer-17"
    assert isinstance(BertScore(str(encoder), 3).probe(), Available)
    for layer, told in ((None, "nobody has chosen"), (4, "has 3 layers, not 4")):
        state = BertScore(str(encoder), layer).probe()
        assert isinstance(state, Refused)
        assert told in state.reason
        assert "0 to 3" in state.fix
    assert isinstance(BertScore(str(tmp_path / "none"), 1).probe(), Refused)
    with pytest.raises(ValidationError):
        TypeAdapter(BertScore).validate_python({"layer": -1})


def test_nothing_to_match(encoder: Path, summary: Callable[..., Sample]) -> None:
    """An empty summary is unscored."""
    with pytest.raises(UnscoredError, match="no words"):
        BertScore(str(encoder), 1).score(summary(" ", reference="the cat"))
