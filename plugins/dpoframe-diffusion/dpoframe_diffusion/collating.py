"""From examples to a batch: frames, encodings and draws come together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from dpoframe import DataError, Example, Media
from dpoframe_diffusion.batch import ImageBatch, Noised, gather
from dpoframe_diffusion.draws import draw
from dpoframe_diffusion.framing import Frame, FramingSection, frames, weights
from dpoframe_diffusion.images import header, opened_mask

if TYPE_CHECKING:
    from torch import Tensor

    from dpoframe_diffusion.latents import Encodings
    from dpoframe_diffusion.loading import Location
    from dpoframe_diffusion.timesteps import TimestepSection

# Pictures that are encoded in one go.
_PART = 16


def collate(
    examples: Sequence[Example], where: Location, encodings: Encodings, framing: FramingSection, timesteps: TimestepSection
) -> ImageBatch:
    """N examples as the denoiser of a pipeline meets them.

    Args:
        examples: In the order in which scores come back.
        where: The pipeline.
        encodings: What its frozen parts make of pictures and captions.
        framing: Which part of each picture is seen.
        timesteps: How noisy.

    Raises:
        DataError: a prompt is no caption, or a response no picture that can be read.
    """
    captions = [caption(example) for example in examples]
    placed = frames(examples, framing)
    # All that lacks in one go: the encoders work on several at once.
    encodings.prepare(examples, placed)
    noised = [_noised(*one, where, encodings, timesteps) for one in zip(examples, placed, strict=True)]
    return gather(noised, {text: encodings.prompt(text) for text in dict.fromkeys(captions)})


def prepare(examples: Iterable[Example], encodings: Encodings, framing: FramingSection) -> None:
    """Encodes what a run will need and is not kept yet. The two of a pair must follow each other."""
    for part in _parts(examples):
        for example in part:
            caption(example)
        encodings.prepare(part, frames(part, framing))


def caption(example: Example) -> str:
    """The prompt. DataError where it is no text, or a blank one."""
    if isinstance(example.prompt, str) and example.prompt.strip():
        return example.prompt
    found = "a blank text" if isinstance(example.prompt, str) else f"a {type(example.prompt).__name__}"
    raise DataError(
        f"The prompt of pair {example.pair_id} is {found}, expected a caption: the words that the picture was drawn for."
    )


def check(example: Example, framing: FramingSection) -> None:
    """Looks at the caption and at the headers of picture and mask. DataError where one cannot be used."""
    caption(example)
    frames([example], framing)
    if (mask := _mask(example)) is not None:
        header(mask)


def _parts(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Some examples at a time; never is a pair taken apart, whose frames are decided together."""
    part: list[Example] = []
    for example in examples:
        follows = part and (part[-1].pair_id, part[-1].seed) == (example.pair_id, example.seed)
        if len(part) >= _PART and not follows:
            yield part
            part = []
        part.append(example)
    if part:
        yield part


def _noised(example: Example, frame: Frame, where: Location, encodings: Encodings, timesteps: TimestepSection) -> Noised:
    mean, std = encodings.latent(example, frame)
    drawn = draw(example.seed, mean.shape, where.process, timesteps)
    latent = where.family.scale((mean + std * drawn.posterior)[None], where.config("vae"))
    mixed = latent, drawn.noise[None], drawn.time[None]
    noisy, target = where.process.noisy(*mixed)[0], where.process.target(*mixed)[0]
    return Noised(caption(example), noisy, target, drawn.time, frame.time_ids, _weight(example, frame, mean))


def _weight(example: Example, frame: Frame, latent: Tensor) -> Tensor | None:
    mask = _mask(example)
    return None if mask is None else weights(opened_mask(mask), frame, (latent.shape[-2], latent.shape[-1]))


def _mask(example: Example) -> Media | None:
    return getattr(example.response, "mask", None)
