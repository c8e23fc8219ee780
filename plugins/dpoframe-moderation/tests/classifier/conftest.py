"""Small classifiers, and encoders without a head, that the tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LABELS = ("unsafe", "hate", "violence")

_TEXT = "i you we they hate like hurt kill love a the dog cat people all day nice have good bad will not"


def _tokenizer(family: str) -> Any:
    """A word tokenizer: of BERT's kind with marks around a text, of a decoder's kind with none."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = [f"{lead}{letter}" for lead in ("", "##") for letter in "abcdefghijklmnopqrstuvwxyz0123456789.,!?[]"]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys([*marks, *_TEXT.split(), *letters]))}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if family == "bert":
        made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
        return PreTrainedTokenizerFast(
            tokenizer_object=made, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
        )
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="[SEP]", unk_token="[UNK]")


def _config(family: str, size: int) -> Any:
    from transformers import BertConfig, LlamaConfig

    shape = {"vocab_size": size, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    if family == "bert":
        return BertConfig(**shape, max_position_embeddings=24)
    return LlamaConfig(**shape, num_key_value_heads=1, max_position_embeddings=24, eos_token_id=3, bos_token_id=None)


def _model(folder: Path, family: str, kind: str, **named: Any) -> Path:
    import torch
    import transformers

    tokenizer = _tokenizer(family)
    config = _config(family, len(tokenizer))
    config.update(named)
    name = {"bert": "Bert", "llama": "Llama"}[family]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, name + kind)(config)
        for parameter in model.parameters():
            # Wide enough that texts differ.
            parameter.data.normal_(0, 0.3) if parameter.ndim > 1 else None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random BERT of two layers, without a head."""
    return _model(tmp_path_factory.mktemp("models") / "encoder", "bert", "Model")


@pytest.fixture(scope="session")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Llama of two layers, a language model; its tokenizer puts nothing around a text."""
    return _model(tmp_path_factory.mktemp("models") / "decoder", "llama", "ForCausalLM")


@pytest.fixture(scope="session")
def made() -> Callable[..., Path]:
    """Makes other models: `made(folder, family, kind, **configuration)`."""
    return _model
