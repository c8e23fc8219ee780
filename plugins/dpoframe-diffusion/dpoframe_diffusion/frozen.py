"""The parts of a pipeline that are never trained: the VAE and the text encoders, in memory only while they encode."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch

from dpoframe import ConfigError
from dpoframe_diffusion.memory import enough_memory, free_memory
from dpoframe_diffusion.quiet import quiet

if TYPE_CHECKING:
    from torch import Tensor

    from dpoframe_diffusion.loading import DtypeName, Location


class Frozen:
    """The VAE and the text encoders of one pipeline, each loaded when it is first asked for, and apart from the other.

    Pictures and prompts are encoded one by one: what comes out then depends on nothing else, to the last bit.

    Args:
        location: The pipeline.
        dtype: Type of the weights; for the VAE see `vae_dtype`.
        device: Where to encode; by itself a GPU where there is one.
    """

    def __init__(self, location: Location, dtype: DtypeName = "float32", device: str | None = None) -> None:
        self.location, self.dtype, self._device = location, dtype, device
        self._process = os.getpid()
        self._inherited: list[Any] = []

    @property
    def device(self) -> torch.device:
        """Where the parts are."""
        return encoding_device(self._device)

    @cached_property
    def vae(self) -> Any:
        """The VAE. CheckpointError where its files are damaged."""
        import diffusers

        name = str((self.location.index.get("vae") or [None, None])[1])
        with quiet():
            kind = getattr(diffusers, name, None)
        if kind is None:
            raise ConfigError(f"The VAE of {self.location.model} is a {name}, which this diffusers does not have.")
        with self.location.explained("vae"):
            made = kind.from_pretrained(
                self.location.folder,
                subfolder="vae",
                torch_dtype=_type(vae_dtype(self.location, self.dtype)),
                variant=self.location.variant,
                use_safetensors=True,
            )
        return made.requires_grad_(False).eval().to(self.device)

    @cached_property
    def text(self) -> Any:
        """A pipeline that holds the text encoders and tokenizers, and neither VAE nor denoiser."""
        kept = (*self.location.family.text_parts, "scheduler")
        left_out = {name: None for name, entry in self.location.index.items() if isinstance(entry, list) and name not in kept}
        made = pipeline(self.location, self.dtype, **left_out)
        for part in made.components.values():
            if hasattr(part, "requires_grad_"):
                part.requires_grad_(False).eval()
        return made.to(self.device)

    def moments(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the VAE's posterior, float32 (n, C, h, w) each on the CPU, not yet scaled.

        A VAE without a posterior gives its latents and zeros.

        Args:
            pixels: (n, 3, height, width) in [-1, 1].
        """
        self._leave_inherited()
        means, deviations = zip(*(self._moments(one[None]) for one in pixels), strict=True)
        return torch.cat(means), torch.cat(deviations)

    def _moments(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        vae = self.vae
        with _plainly(self.device), enough_memory(f"Encoding a picture of {pixels.shape[-1]} x {pixels.shape[-2]} pixels"):
            encoded = vae.encode(pixels.to(self.device, vae.dtype))
            posterior = getattr(encoded, "latent_dist", None)
            if posterior is None:
                latent = encoded.latents.float().cpu()
                return latent, torch.zeros_like(latent)
            return posterior.mean.float().cpu(), posterior.std.float().cpu()

    def prompts(self, texts: Sequence[str]) -> list[dict[str, Tensor]]:
        """What the denoiser sees of each prompt: the family's conditions, without a batch dimension, on the CPU."""
        self._leave_inherited()
        found = []
        for text in texts:
            pipe = self.text
            with _plainly(self.device), quiet(), enough_memory("Encoding a prompt"):
                encoded = self.location.family.encode_prompts(pipe, [text])
            found.append({name: tensor[0].cpu() for name, tensor in encoded.items()})
        return found

    def _leave_inherited(self) -> None:
        """A forked process cannot use what its parent has on a GPU, nor free it: it loads parts of its own."""
        if self._process == os.getpid():
            return
        self._process = os.getpid()
        for name in ("vae", "text"):
            if name in self.__dict__ and self.__dict__[name].device.type != "cpu":
                self._inherited.append(self.__dict__.pop(name))

    def release_vae(self) -> None:
        """Lets go of the VAE."""
        self._release("vae")

    def release(self) -> None:
        """Lets go of all parts; what is asked for later is loaded again."""
        self._release("vae", "text")

    def _release(self, *names: str) -> None:
        if not [name for name in names if self.__dict__.pop(name, None) is not None]:
            return
        free_memory()

    def __enter__(self) -> Frozen:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


def pipeline(location: Location, dtype: DtypeName, **parts: Any) -> Any:
    """A pipeline of diffusers that draws from text alone, without progress bars, on the CPU.

    Args:
        location: Where it is.
        dtype: Type of the weights of those parts that are loaded.
        parts: Components that are given; None leaves one out.

    Raises:
        CheckpointError: its files are damaged.
    """
    kind = pipeline_class(location)
    # diffusers asks for every part by name, also for those that the pipeline was saved without (T5 in Stable Diffusion 3).
    absent = {name: None for name, entry in location.index.items() if isinstance(entry, list) and entry[0] is None}
    with location.explained("rest"):
        made = kind.from_pretrained(
            location.folder, torch_dtype=_type(dtype), variant=location.variant, use_safetensors=True, **absent | parts
        )
    made.set_progress_bar_config(disable=True)
    return made


def pipeline_class(location: Location) -> Any:
    """The class of diffusers that draws with such a pipeline from text alone."""
    import diffusers

    # Only now diffusers imports it, which makes other libraries talk.
    with quiet():
        return getattr(diffusers, location.family.pipelines[0])


def vae_dtype(location: Location, dtype: DtypeName) -> DtypeName:
    """The type in which the VAE encodes: float32 unless its configuration says that it need not (`force_upcast: false`).

    SDXL's VAE overflows in float16; others that say nothing were never tried.
    """
    return dtype if location.config("vae").get("force_upcast", True) is False else "float32"


def encoding_device(wanted: str | None = None) -> torch.device:
    """Where frozen parts encode: the GPU of this process where it may use one. Data-loading workers are left the CPU."""
    if wanted is not None:
        return torch.device(wanted)
    from torch.utils.data import get_worker_info

    # A forked process cannot use CUDA that its parent uses.
    if get_worker_info() is None and torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return torch.device("cpu")


@contextlib.contextmanager
def _plainly(device: torch.device) -> Iterator[None]:
    """Neither gradients nor autocast: an encoding must not depend on who asks for it."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


def _type(name: str) -> torch.dtype:
    found: torch.dtype = getattr(torch, name)
    return found
