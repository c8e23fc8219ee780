"""A CLIP tokenizer whose words are those of a few captions."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

LENGTH = 8
"""Tokens of a prompt, padding included: the captions have three words, a beginning and an end."""

_SPECIAL = ("<|startoftext|>", "<|endoftext|>")
_LAST = "</w>"


def tokenizer_for(captions: Sequence[str]) -> Any:
    """A `CLIPTokenizer` that knows every word of `captions` as one token; of other words it knows letters and what they share.

    Its tokens stand in the order of CLIP's own: bytes, bytes that end a word, merged ones, beginning and end of the text.

    Args:
        captions: Texts in lower case, words apart by spaces.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    merges = merges_of(sorted({word for text in captions for word in text.split()}))
    tokens = [*letters, *(letter + _LAST for letter in letters), *("".join(pair) for pair in merges), *_SPECIAL]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    # Pairs are what it takes; its annotation names files alone.
    pairs: Any = merges
    return CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=LENGTH)


def merges_of(words: Sequence[str]) -> list[tuple[str, str]]:
    """Byte-pair merges (Sennrich et al. 2016, arXiv 1508.07909) until every word is one token.

    Of pairs that are equally frequent the first in the alphabet is merged; the trainer of `tokenizers` takes them in an
    order that changes from call to call, and with it the base that is trained.
    """
    split = [[*word[:-1], word[-1] + _LAST] for word in words]
    found: list[tuple[str, str]] = []
    while pairs := Counter(pair for parts in split for pair in itertools.pairwise(parts)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append(best)
        split = [_merged(parts, best) for parts in split]
    return found


def _merged(parts: Sequence[str], pair: tuple[str, str]) -> list[str]:
    made: list[str] = []
    for part in parts:
        if made and (made[-1], part) == pair:
            made[-1] += part
        else:
            made.append(part)
    return made
