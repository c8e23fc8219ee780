"""What an evaluator of pictures reads of a sample: the picture, and the words that asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dpoframe import DataError, Media, Sample, UnscoredError
from dpoframe_diffusion.images import opened

if TYPE_CHECKING:
    from PIL.Image import Image


def picture_of(sample: Sample) -> Image:
    """The answer as an RGB picture.

    Raises:
        UnscoredError: it is no picture, or cannot be read.
    """
    if not isinstance(sample.response, Media):
        raise UnscoredError("the answer is a text, expected a picture")
    try:
        return opened(sample.response)
    except DataError as error:
        raise UnscoredError(str(error)) from error


def words_of(sample: Sample) -> str:
    """The prompt as text; of chat messages the last one of the user's.

    Raises:
        UnscoredError: there are no words in it.
    """
    prompt = sample.prompt
    if not isinstance(prompt, str):
        said = [] if isinstance(prompt, Media) else [one.get("content") for one in prompt if one.get("role") == "user"]
        prompt = _plain(said[-1]) if said else ""
    if not prompt.strip():
        raise UnscoredError("the prompt holds no words to compare the picture with")
    return prompt


def _plain(content: Any) -> str:
    """The text of a message, whose content may be a list of parts."""
    if isinstance(content, str):
        return content
    return " ".join(str(part["text"]) for part in content or () if isinstance(part, Mapping) and part.get("type") == "text")
