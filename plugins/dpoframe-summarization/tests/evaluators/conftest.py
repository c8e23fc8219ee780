"""Real summaries where they are at hand, and samples made of texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpoframe import Sample

DATA = Path(__file__).parents[4].parent / "shared" / "data" / "summarization"


@pytest.fixture(scope="session")
def summeval() -> list[dict[str, Any]]:
    """SummEval: 100 articles, each with 11 references and 16 rated summaries; skips where it is not at hand."""
    file = DATA / "summeval_100x16.jsonl"
    if not file.is_file():
        pytest.skip(f"SummEval is not at hand: it would be {file}")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def scitldr() -> list[dict[str, Any]]:
    """SciTLDR's development rows: abstracts as lists of sentences; skips where they are not at hand."""
    file = DATA / "scitldr_A_dev.jsonl"
    if not file.is_file():
        pytest.skip(f"SciTLDR is not at hand: it would be {file}")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def summary() -> Callable[..., Sample]:
    """Makes a sample of a summary, with what its row knows by keyword."""
    return lambda text, **meta: Sample("s", "Summarize.", text, meta=meta)


WORDS = "the a cat dog sat slept on mat bed red blue ran home was not . , ! ? york leeds"


def make_tokenizer(folder: Path) -> None:
    """A BERT tokenizer over a few words; letters it does not know are [UNK]."""
    from transformers import BertTokenizerFast

    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]
    made = BertTokenizerFast(vocab={word: place for place, word in enumerate(vocab)}, model_max_length=32)
    made.save_pretrained(folder)


def make_bert(folder: Path, kind: str, **settings: Any) -> Path:
    """Writes a BERT with random weights, large enough that texts differ, and its tokenizer."""
    import torch
    import transformers

    make_tokenizer(folder)
    config = transformers.BertConfig(
        vocab_size=5 + len(WORDS.split()),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=32,
        **settings,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, kind)(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny encoder."""
    return make_bert(tmp_path_factory.mktemp("models") / "tiny-bert", "BertModel")


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny classifier of entailment."""
    labels = ["CONTRADICTION", "ENTAILMENT", "NEUTRAL"]
    settings = {"id2label": dict(enumerate(labels)), "label2id": {label: place for place, label in enumerate(labels)}}
    return make_bert(tmp_path_factory.mktemp("models") / "tiny-nli", "BertForSequenceClassification", **settings)
