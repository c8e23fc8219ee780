"""Captions: what one is, and whether the text encoders read all of it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dpoframe import DataError, Example
from dpoframe_diffusion.quiet import quiet

if TYPE_CHECKING:
    from dpoframe_diffusion.loading import Location

# Tokens that a tokenizer may add to those of the text: a beginning, an end, and a space before the first word.
_ADDED = 3


def caption(example: Example) -> str:
    """The prompt. DataError where it is no text, or a blank one."""
    if isinstance(example.prompt, str) and example.prompt.strip():
        return example.prompt
    found = "a blank text" if isinstance(example.prompt, str) else f"a {type(example.prompt).__name__}"
    raise DataError(
        f"The prompt of pair {example.pair_id} is {found}, expected a caption: the words that the picture was drawn for."
    )


def is_cut(where: Location, text: str) -> bool:
    """Whether even the encoder that reads most tokens does not see the end of a caption. Loads no encoder.

    It is the last of a family's that the pipeline has.
    """
    name, limit = list(where.tokens.items())[-1]
    # A token is a byte at least, so most captions are told without a tokenizer.
    if len(text.encode("utf-8", "surrogatepass")) + _ADDED <= limit:
        return False
    with quiet():
        return len(_tokenizer(where, name)(text).input_ids) > limit


@lru_cache(maxsize=8)
def _tokenizer(where: Location, name: str) -> Any:
    import transformers

    with where.explained(name):
        return getattr(transformers, where.index[name][1]).from_pretrained(where.folder / name)
