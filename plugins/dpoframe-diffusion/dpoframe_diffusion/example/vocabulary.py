"""A CLIP tokenizer whose words are those of a few captions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

LENGTH = 8
"""Tokens of a prompt, padding included: the longest caption has three words, a beginning and an end."""

_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"


def tokenizer_for(captions: Sequence[str]) -> Any:
    """A `CLIPTokenizer` that knows every word of `captions` as one token; of other words it knows the letters.

    Args:
        captions: Texts in lower case.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    learnt = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learnt.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        min_frequency=1,
        special_tokens=[_BEGIN, _END],
        initial_alphabet=letters,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learnt.train_from_iterator(list(captions), trainer)
    model = json.loads(learnt.to_str())["model"]
    merges = [tuple(one) if isinstance(one, list) else tuple(one.split(" ")) for one in model["merges"]]
    return CLIPTokenizer(vocab=model["vocab"], merges=merges, model_max_length=LENGTH)
