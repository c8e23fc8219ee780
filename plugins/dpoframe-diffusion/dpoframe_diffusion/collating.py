"""From examples to a batch: frames, encodings and draws come together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from dpoframe import DataError, Example, Media
from dpoframe_diffusion.batch import ImageBatch, Noised, gather
from dpoframe_diffusion.captions import caption
from dpoframe_diffusion.draws import draw
from dpoframe_diffusion.framing import Frame, FramingSection, frames, require_shape, weights
from dpoframe_diffusion.images import header, named, opened_mask

if TYPE_CHECKING:
    from torch import Tensor

    from dpoframe_diffusion.blank import BlankEncodings
    from dpoframe_diffusion.latents import Encodings
    from dpoframe_diffusion.loading import Location
    from dpoframe_diffusion.timesteps import TimestepSection

# Examples whose headers are read in one go.
_PART = 64


def collate(
    examples: Sequence[Example],
    where: Location,
    encodings: Encodings | BlankEncodings,
    framing: FramingSection,
    timesteps: TimestepSection,
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
    captions, pictures = [caption(example) for example in examples], [picture(example) for example in examples]
    placed = frames(examples, framing)
    moments = encodings.moments(list(zip(pictures, placed, strict=True)))
    noised = [_noised(*one, where, timesteps) for one in zip(examples, placed, moments, strict=True)]
    texts = list(dict.fromkeys(captions))
    return gather(noised, dict(zip(texts, encodings.conditions(texts), strict=True)))


def prepare(examples: Iterable[Example], encodings: Encodings, framing: FramingSection) -> None:
    """Encodes what a run will need and is not kept yet. The two of a pair must follow each other.

    Raises:
        DataError: as for `collate`, so that a run does not end at a later step for a picture or a mask.
    """
    captions: dict[str, None] = {}
    masks: set[tuple[str, str]] = set()

    def pictures() -> Iterator[tuple[Media, Frame]]:
        for part in _parts(examples):
            captions.update(dict.fromkeys(caption(example) for example in part))
            for example, frame in zip(part, frames(part, framing), strict=True):
                media = picture(example)
                if media.mask is not None and (known := (media.mask.digest(), frame.key)) not in masks:
                    masks.add(known)
                    _weight(example, frame, (1, 1))
                yield media, frame

    # Captions are read when all pictures were: they are met on the way.
    encodings.prepare(captions, pictures())


def picture(example: Example) -> Media:
    """The response. DataError where it is no picture."""
    if isinstance(example.response, Media) and example.response.kind == "image":
        return example.response
    found = example.response.kind if isinstance(example.response, Media) else type(example.response).__name__
    raise DataError(f"The response of pair {example.pair_id} is of the kind {found}, expected a picture: Media('image', path=...).")


def check(example: Example, framing: FramingSection) -> None:
    """Looks at the caption and at the headers of picture and mask. DataError where one cannot be used."""
    caption(example)
    media = picture(example)
    (frame,) = frames([example], framing)
    if media.mask is not None:
        found = header(media.mask)
        require_shape((found.width, found.height), frame)


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


def _noised(example: Example, frame: Frame, moments: tuple[Tensor, Tensor], where: Location, timesteps: TimestepSection) -> Noised:
    mean, std = moments
    drawn = draw(example.seed, mean.shape, where.process, timesteps)
    latent = where.family.scale((mean + std * drawn.posterior)[None], where.settings("vae"))
    mixed = latent, drawn.noise[None], drawn.time[None]
    noisy, target = where.process.noisy(*mixed)[0], where.process.target(*mixed)[0]
    weight = _weight(example, frame, (mean.shape[-2], mean.shape[-1]))
    return Noised(caption(example), noisy, target, drawn.time, frame.time_ids, weight)


def _weight(example: Example, frame: Frame, size: tuple[int, int]) -> Tensor | None:
    """What the places of the latent count by the example's mask; None where it has none. DataError names pair and mask."""
    mask = picture(example).mask
    if mask is None:
        return None
    grey = opened_mask(mask)
    try:
        return weights(grey, frame, size)
    except DataError as error:
        raise DataError(f"The mask of pair {example.pair_id} ({named(mask)}) cannot be used. {error}") from error
