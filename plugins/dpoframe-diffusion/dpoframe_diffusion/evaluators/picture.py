"""What an evaluator of pictures reads of a sample: the picture, and the words that asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        prompt = said[-1] if said and isinstance(said[-1], str) else ""
    if not prompt.strip():
        raise UnscoredError("the prompt holds no words to compare the picture with")
    return prompt
