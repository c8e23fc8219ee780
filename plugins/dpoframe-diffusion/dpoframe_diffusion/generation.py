"""Drawing pictures: each from its request's own noise, so that two models can be compared picture by picture."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from dpoframe import ConfigError, DataError, Fault, Media, Request, Sample, as_text, generator
from dpoframe_diffusion import schedulers
from dpoframe_diffusion.frozen import pipeline, pipeline_class
from dpoframe_diffusion.memory import enough_memory, free_memory
from dpoframe_diffusion.quiet import quiet
from dpoframe_diffusion.settings import GenerationSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dpoframe_diffusion.loading import DtypeName, Location


@dataclass(frozen=True)
class Job:
    """A request with its settings checked."""

    request: Request
    prompt: str
    settings: GenerationSettings


def generate(model: nn.Module, location: Location, requests: Sequence[Request], batch_size: int = 1) -> Iterator[Sample]:
    """One picture a request, as PNG, in the order of the requests with like settings together.

    The first noise is drawn on the CPU from the request's seed, whatever the model: a base and an aligned model that are
    asked the same start from the same noise. With a batch size of 1 a picture depends on its own request alone; with more
    it still does but for rounding.

    The frozen parts of the pipeline are loaded once and let go of when the iterator ends. The model is in evaluation mode
    meanwhile, and as it was afterwards.

    Args:
        model: The denoiser, with adapters or without.
        location: The pipeline that it belongs to.
        requests: Prompts, seeds and settings (`GenerationSettings`).
        batch_size: Pictures that are drawn at a time.

    Raises:
        ConfigError: settings are wrong, or this pipeline does not take them.
        DataError: a prompt is no text.
        MachineError: there is not enough memory.
    """
    jobs = [Job(request, _prompt(request), GenerationSettings.read(request.settings)) for request in requests]
    check(location, [job.settings for job in jobs])
    if not jobs:
        return
    denoiser: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    checked = any(job.settings.safety_checker for job in jobs)
    with _evaluating(model), _pipe(denoiser, location, checked) as pipe:
        own = pipe.scheduler
        for batch in _batches(jobs, batch_size):
            settings = batch[0].settings
            pipe.scheduler = schedulers.made(own, settings.scheduler, settings.scheduler_options)
            yield from _drawn(pipe, batch)


def _prompt(request: Request) -> str:
    if not isinstance(request.prompt, str):
        raise DataError(
            f"The prompt of {request.id} is {as_text(request.prompt)[:80]!r}, no plain text. A picture is drawn from a caption: "
            "give a string."
        )
    return request.prompt


def check(location: Location, asked: Sequence[GenerationSettings]) -> None:
    """ConfigError with everything that the pipeline does not take, before anything is loaded."""
    different = {repr(settings): settings for settings in asked}.values()
    faults = dict.fromkeys(fault for settings in different for fault in _faults(location, settings))
    if faults:
        name = location.family.pipelines[0]
        raise ConfigError(f"These generation settings do not suit a {name}:", list(faults))


def _faults(location: Location, settings: GenerationSettings) -> Iterator[Fault]:
    taken = list(inspect.signature(pipeline_class(location).__call__).parameters)
    for name in settings.call():
        if name not in taken:
            near = difflib.get_close_matches(name, taken, n=1, cutoff=0.7)
            yield Fault(name, "its pipeline takes no such setting.", f"Did you mean {near[0]!r}?" if near else "Leave it out.")
    if "true_cfg_scale" in taken and settings.negative_prompt is not None and not (settings.true_cfg_scale or 0) > 1:
        yield Fault("negative_prompt", "has no effect without true_cfg_scale.", "Set true_cfg_scale above 1, or leave it out.")
    yield from _side_faults(location, settings)
    yield from schedulers.scheduler_faults(location, settings.scheduler, settings.scheduler_options)
    if settings.safety_checker and not _has_checker(location):
        yield Fault("safety_checker", f"{location.model} brings no safety checker.", "Leave it out.")


def _side_faults(location: Location, settings: GenerationSettings) -> Iterator[Fault]:
    step = location.family.downscale(location.config("vae")) * location.family.patch
    for name, side in (("width", settings.width), ("height", settings.height)):
        if side is not None and side % step:
            near = max(step, round(side / step) * step)
            yield Fault(name, f"is {side}; this pipeline draws multiples of {step}.", f"Take {near}.")


def _has_checker(location: Location) -> bool:
    return (location.index.get("safety_checker") or [None])[0] is not None


@contextlib.contextmanager
def _pipe(denoiser: Any, location: Location, checked: bool) -> Iterator[Any]:
    """Context with the pipeline around the denoiser, on its device and in its type; its frozen parts are let go of afterwards."""
    parts: dict[str, Any] = {location.family.denoiser: denoiser}
    taken = inspect.signature(pipeline_class(location).__init__).parameters
    if "safety_checker" in taken and not checked:
        parts |= {"safety_checker": None, "requires_safety_checker": False}
    if "add_watermarker" in taken:
        # Base and aligned pictures are to differ by the model alone.
        parts["add_watermarker"] = False
    weight = _weight(denoiser)
    made = pipeline(location, _name(weight.dtype), **parts).to(weight.device)
    try:
        yield made
    finally:
        for name in made.components:
            setattr(made, name, None)
        free_memory()


def _weight(denoiser: nn.Module) -> Tensor:
    """A weight that tells type and device: adapters may be of a wider type than what they adapt."""
    found = [parameter for parameter in denoiser.parameters() if parameter.is_floating_point()]
    return next((parameter for parameter in found if parameter.dtype != torch.float32), found[0])


def _name(dtype: torch.dtype) -> DtypeName:
    names: dict[str, DtypeName] = {"torch.float32": "float32", "torch.bfloat16": "bfloat16", "torch.float16": "float16"}
    return names.get(str(dtype), "float32")


def _batches(jobs: Sequence[Job], size: int) -> Iterator[list[Job]]:
    """Jobs with the same settings, at most `size` at a time; settings in the order in which they first occur."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(repr(job.settings), []).append(job)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]


def _drawn(pipe: Any, jobs: Sequence[Job]) -> list[Sample]:
    settings = jobs[0].settings
    options = settings.call()
    if "negative_prompt" in options:
        options["negative_prompt"] = [options["negative_prompt"]] * len(jobs)
    shape = f"{settings.width or 'the usual'} x {settings.height or 'the usual'} pixels"
    with _seeded(jobs[0].request.seed, pipe.device), quiet(), enough_memory(f"Drawing {len(jobs)} picture(s) of {shape}"):
        try:
            found = pipe(
                prompt=[job.prompt for job in jobs],
                generator=[generator(job.request.seed) for job in jobs],
                output_type="pt",
                **options,
            )
        except (ValueError, TypeError) as error:  # how pipelines and schedulers refuse what they are asked for
            raise ConfigError(f"The pipeline refuses these generation settings ({settings}): {error}") from error
    flagged = getattr(found, "nsfw_content_detected", None) or [False] * len(jobs)
    return [_sample(job, image, bool(nsfw)) for job, image, nsfw in zip(jobs, found.images, flagged, strict=True)]


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Global random states that follow from the seed, for schedulers that draw from them; put back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(seed)
        yield


def _sample(job: Job, image: Tensor, nsfw: bool) -> Sample:
    detail = {"length": 1.0, **({"nsfw": float(nsfw)} if job.settings.safety_checker else {})}
    return Sample(job.request.id, job.request.prompt, Media("image", data=_png(image, job)), True, detail)


def _png(image: Tensor, job: Job) -> bytes:
    """A picture (3, height, width) in [0, 1] as the bytes of a PNG."""
    from PIL import Image

    plain = image.detach().float().cpu()
    if not bool(plain.isfinite().all()):
        raise ConfigError(
            f"The picture of {job.request.id} is not finite. In float16 the VAE of SDXL overflows: set dtype: float32 or bfloat16. "
            "Otherwise the weights themselves hold NaN: the training has diverged, take an earlier checkpoint or a lower lr."
        )
    values = (plain.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(values).save(file, format="PNG")
    return file.getvalue()


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; every part's own mode afterwards."""
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
