"""Makes what both sides train on: a random Llama-shaped model, a word tokenizer, and pairs of skewed lengths."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch

VOCABULARY = 32_000


def write_model(folder: Path) -> None:
    """A Llama of 22.7 million parameters (hidden 256, 6 layers, vocabulary 32,000) with fixed random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    shape = LlamaConfig(
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=8,
        vocab_size=VOCABULARY,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    words = {"<s>": 0, "</s>": 1, "<pad>": 2} | {f"w{index}": index for index in range(3, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>").save_pretrained(folder)


def write_pairs(file: Path, count: int) -> None:
    """Prompts of 50 to 400 tokens, responses of 20 to 300, both skewed to the short side."""
    draw = random.Random(0)

    def words(low: int, high: int) -> str:
        length = low + int((high - low) * draw.betavariate(1.2, 3.0))
        return " ".join(f"w{draw.randrange(3, VOCABULARY)}" for _ in range(length))

    rows = (
        {"id": f"pair-{index}", "prompt": words(50, 400), "chosen": " " + words(20, 300), "rejected": " " + words(20, 300)}
        for index in range(count)
    )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
