"""Tokenizers and small models that the tests of the text plugin share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

STORIES = Path(__file__).parents[3] / ".." / "shared" / "data" / "lm" / "stories260K_hf"

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

_CORPUS = [
    "the cat sat on the mat",
    "a dog and a cat",
    "hello there, how are you today?",
    "red green blue 123 456",
    "\n\nHuman: hi\n",
] * 20


def _byte_tokenizer(
    *, bos: bool = True, eos: bool = True, adds_bos: bool = True, adds_eos: bool = False, template: str | None = None
):
    """A byte-level BPE tokenizer made here: every text has tokens, and they decode to it exactly."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    specials = ["<s>", "</s>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(_CORPUS, trainer)
    parts = (["<s>"] if bos and adds_bos else []) + ["$A"] + (["</s>"] if eos and adds_eos else [])
    made.post_processor = processors.TemplateProcessing(single=" ".join(parts), special_tokens=[("<s>", 0), ("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>" if bos else None,
        eos_token="</s>" if eos else None,
        extra_special_tokens=specials[2:],
    )
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="session")
def byte_tokenizer() -> Callable[..., Any]:
    """Makes byte-level tokenizers; see its keyword arguments."""
    return _byte_tokenizer


@pytest.fixture(scope="session")
def chat_template() -> str:
    """A chat template that opens with the beginning token and closes turns with a mark of its own."""
    return CHAT_TEMPLATE


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The byte tokenizer with beginning and end tokens and the chat template."""
    return _byte_tokenizer(template=CHAT_TEMPLATE)


@pytest.fixture(scope="session")
def stories() -> Path:
    """The folder of a Llama of 260,000 parameters that writes small stories."""
    if not STORIES.is_dir():
        pytest.skip(f"the model {STORIES.name} is not beside this checkout")
    return STORIES.resolve()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Llama of two layers and the byte tokenizer with a chat template."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = _byte_tokenizer(template=CHAT_TEMPLATE)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        for parameter in model.parameters():
            # Wide enough that answers differ from prompt to prompt.
            parameter.data.normal_(0, 0.3) if parameter.ndim > 1 else None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
