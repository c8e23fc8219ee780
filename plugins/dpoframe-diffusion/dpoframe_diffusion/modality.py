"""The modality `diffusion`: image generators that undo noise."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dpoframe import ConfigError, Example, Fault, Measure, Modality, Request, Sample, Scores, blocks_of, content_digest
from dpoframe_diffusion.adapters import LoraSection
from dpoframe_diffusion.framing import FramingSection
from dpoframe_diffusion.loading import INDEX, DtypeName, Location, location, settle
from dpoframe_diffusion.timesteps import TimestepSection

if TYPE_CHECKING:
    from torch import nn

    from dpoframe_diffusion.batch import ImageBatch
    from dpoframe_diffusion.latents import Encodings


@dataclass(frozen=True)
class DiffusionModality(Modality):
    """Pipelines of diffusers that draw pictures from captions: Stable Diffusion 1.x, 2.x, XL, 3.x, Flux.

    A score is minus half the mean squared error of what the denoiser (UNet or transformer) predicts for a noisy latent of
    the picture, so that the loss `sigmoid` with `beta: 5000` is Diffusion-DPO (Wallace et al. 2023, arXiv 2311.12908). Noise
    and time follow from the example's seed: the two of a pair share them, and so do policy and reference. The policy is the
    denoiser alone; VAE and text encoders stay as they are and are not in memory while it is trained.

    Attributes:
        model: A folder in the layout of diffusers (it holds model_index.json), or a name on the Hugging Face hub.
        revision: Branch, tag or commit on the hub.
        variant: Which of several sets of weights in the folder, such as `fp16`.
        dtype: Type of the weights. Keep float32 to train all of them, and set `trainer.precision` for speed; frozen weights
            under adapters may be of half precision, the adapters are float32.
        lora: Train low-rank adapters; None trains all weights.
        gradient_checkpointing: Recompute activations in the backward: less memory, a third more time.
        framing: How pictures are brought to the size of the model.
        timesteps: How noisy the pictures are made.
        cache: Keep what VAE and text encoders give on disk, in the folder DPOFRAME_CACHE or the user's cache folder. Without it
            they encode anew in every process, and stay in memory.
        merge_on_save: Write the whole pipeline with the adapters added in, in place of a file of adapters.
        generation_batch: Pictures drawn at a time. With 1 a picture is the same to the bit whatever else is drawn.
        details: Further score details to compute, set by the trainer for losses that need them.
    """

    model: str
    revision: str | None = None
    variant: str | None = None
    dtype: DtypeName = "float32"
    lora: LoraSection | None = None
    gradient_checkpointing: bool = False
    framing: FramingSection = field(default_factory=FramingSection)
    timesteps: TimestepSection = field(default_factory=TimestepSection)
    cache: bool = True
    merge_on_save: bool = False
    generation_batch: int = 1
    details: tuple[str, ...] = ()

    provides: ClassVar[frozenset[str]] = frozenset({"residual"})
    stochastic: ClassVar[bool] = True
    library: ClassVar[str] = "diffusers"

    def __post_init__(self) -> None:
        """ValueError with every value that cannot be."""
        rules = [
            (not self.model, "model is empty."),
            (self.generation_batch < 1, f"generation_batch is {self.generation_batch}; it must be at least 1."),
            (self.dtype == "float16" and self.lora is None, "dtype float16 needs a lora section: such weights cannot be trained."),
        ]
        faults = [message for wrong, message in rules if wrong]
        faults += [*self.framing.faults(), *self.timesteps.faults(), *(self.lora.faults() if self.lora else [])]
        if faults:
            raise ValueError(" ".join(faults))

    def require(self) -> None:
        """Looks at the pipeline's configs, which is cheap.

        Raises:
            ConfigError: the pipeline is not there, of a kind that cannot be aligned, or does not go with the recipe's keys;
                with all faults of the last kind.
        """
        where, family = self.location, self.location.family
        vae = where.settings("vae")
        faults = [Fault("modality.model", message) for message in family.faults(where.settings(family.denoiser), vae)]
        try:
            where.process  # noqa: B018
        except ConfigError as error:
            faults.append(Fault("modality.model", str(error)))
        faults += filter(None, [where.variant_fault()])
        step = family.downscale(vae) * family.patch
        sides = {"resolution": self.framing.resolution} | ({"multiple": self.framing.multiple} if self.framing.buckets else {})
        for name, side in sides.items():
            if side % step:
                near = max(step, round(side / step) * step)
                faults.append(Fault(f"modality.framing.{name}", f"is {side}, no multiple of {step}.", f"Take {near}."))
        longest, limit = self.framing.longest(), family.largest(where.settings(family.denoiser), vae)
        if limit is not None and longest > limit:
            said = f"gives pictures with sides of up to {longest} pixels, and the {family.denoiser} takes {limit} at most."
            faults.append(Fault("modality.framing.resolution", said, "Lower it."))
        if faults:
            raise ConfigError(f"The pipeline {self.model} cannot be aligned by this recipe:", faults)

    def prepare(self, examples: Iterable[Example]) -> None:
        """Encodes pictures and captions that the cache lacks, then lets go of VAE and text encoders."""
        from dpoframe_diffusion.collating import prepare

        self.require()
        prepare(examples, self.encodings, self.framing)

    def build(self) -> nn.Module:
        """The denoiser, ready to train: dropout off, adapters on where `lora` asks for them."""
        self.require()
        return self._ready(self.location.denoiser(self.dtype))

    def outline(self) -> nn.Module:
        """The denoiser from its config alone."""
        import torch

        self.require()
        with torch.device("meta"):
            return self._ready(self.location.outline(self.dtype))

    def blocks(self, model: nn.Module) -> list[nn.Module]:
        """The denoiser's blocks; none where pictures keep their proportions, since each size of a batch is a pass of its own."""
        return [] if self.framing.buckets else blocks_of(model)

    def _ready(self, model: Any) -> nn.Module:
        from dpoframe_diffusion.adapters import without_dropout

        without_dropout(model)
        if self.lora is not None:
            model = self.lora.attach(model, self.location.family.lora_targets)
        if self.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        made: nn.Module = model.train()
        return made

    def collate(self, examples: Sequence[Example]) -> ImageBatch:
        """Noisy latents of N pictures. DataError where a prompt is no caption, or a response no picture that can be read."""
        from dpoframe_diffusion.collating import collate

        return collate(examples, self.location, self.encodings, self.framing, self.timesteps)

    def outline_batch(self, examples: Sequence[Example]) -> ImageBatch:
        """As `collate`, with zeros in place of what VAE and text encoders would give."""
        from dpoframe_diffusion.blank import BlankEncodings
        from dpoframe_diffusion.collating import collate

        return collate(examples, self.location, BlankEncodings(self.location), self.framing, self.timesteps)

    def score(self, model: nn.Module, batch: ImageBatch) -> Scores:
        """Minus half the mean squared errors (N,), in float64."""
        from dpoframe_diffusion.scoring import score_batch

        return score_batch(self.location.family, model, batch, self.details)

    def generate(self, model: nn.Module, requests: Sequence[Request]) -> Iterator[Sample]:
        """Pictures as PNG, from each request's own noise; settings are the fields of `GenerationSettings`."""
        from dpoframe_diffusion.generation import generate

        return generate(model, self.location, requests, self.generation_batch)

    def check_generation(self, settings: Mapping[str, Any]) -> bool:
        """True: pictures differ by their noise. ConfigError for settings that the pipeline does not take."""
        from dpoframe_diffusion.generation import check
        from dpoframe_diffusion.settings import GenerationSettings

        check(self.location, [GenerationSettings.read(settings)])
        return True

    def measure(self, example: Example) -> Measure:
        """One unit a picture, and digests of caption, picture and mask. Reads the files, decodes nothing.

        It is `truncated` where the text encoders do not read the whole caption.

        Raises:
            DataError: the prompt is no caption, or the header of the response is none of a picture that can be read.
        """
        from dpoframe_diffusion.captions import caption, is_cut
        from dpoframe_diffusion.collating import check

        cut = is_cut(self.location, caption(example))
        # A prompt that is measured before its picture is drawn comes with an empty answer.
        if example.response == "":
            return Measure(0, 0, content_digest(example.prompt), content_digest(""), truncated=cut)
        check(example, self.framing)
        return Measure(0, 1, content_digest(example.prompt), content_digest(example.response), truncated=cut)

    def with_details(self, names: frozenset[str]) -> DiffusionModality:
        """This modality with `residual` among its scores' details; ConfigError for other names."""
        super().with_details(names)
        return replace(self, details=tuple(sorted({*self.details, *names})))

    def fingerprint(self) -> dict[str, Any]:
        """Digests of VAE, text encoders and the denoiser's config, the noising process, the framing, and the weights' type."""
        from dpoframe_diffusion.digests import image_digest, text_digest

        where = self.location
        return {
            "pipeline": where.family.pipelines[0],
            "process": where.process.fingerprint(),
            "denoiser": _digest(where.config(where.family.denoiser)),
            "vae": image_digest(where),
            "text": text_digest(where),
            "framing": asdict(self.framing),
            "timesteps": asdict(self.timesteps),
            "dtype": self.dtype,
        }

    def card(self) -> Mapping[str, str]:
        """How the saved folder is loaded by diffusers, and the name of the pipeline it was trained from."""
        from dpoframe_diffusion.saving import usage

        whole = self.lora is None or self.merge_on_save
        named = {} if Path(self.model).exists() else {"base_model": self.model}
        return {"pipeline_tag": "text-to-image", **named, "usage": usage(self.model, self.revision, whole=whole)}

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Whether it holds the index of a pipeline."""
        return (folder / INDEX).is_file()

    def save(self, model: nn.Module, folder: Path) -> None:
        """Writes what diffusers loads: a file for `load_lora_weights` where the model has adapters, else a whole pipeline."""
        from dpoframe_diffusion.saving import save

        save(model, self.location, folder, merge=self.merge_on_save)

    def settle(self, folder: Path) -> None:
        """A whole pipeline stands in for the one it was trained from."""
        if (folder / INDEX).is_file():
            settle(self.model, folder)

    def load(self, folder: Path) -> nn.Module:
        """Reads a folder that `save` or diffusers wrote; adapters stay switchable. CheckpointError where it holds none of these."""
        from dpoframe_diffusion.saving import load

        self.settle(folder)
        return load(folder, self.location, self.dtype).eval()

    def without_adapter(self, model: nn.Module) -> contextlib.AbstractContextManager[Any]:
        """Context in which the denoiser predicts as it did before training; ConfigError where it has no adapter."""
        from dpoframe_diffusion.adapters import switched_off

        return switched_off(model)

    @property
    def location(self) -> Location:
        """Where the pipeline is; one a process."""
        return location(self.model, self.revision, self.variant)

    @property
    def encodings(self) -> Encodings:
        """What the frozen parts make of pictures and captions; one a process."""
        return _encodings(self.location, self.dtype, self.cache)


@lru_cache(maxsize=4)
def _encodings(where: Location, dtype: DtypeName, cache: bool) -> Encodings:
    from dpoframe_diffusion.latents import Encodings

    return Encodings(where, dtype, cache=cache)


def _digest(config: Mapping[str, Any]) -> str:
    """Digest of a part's config, without what only says where it came from."""
    kept = {name: value for name, value in config.items() if not name.startswith("_")}
    return hashlib.blake2b(json.dumps(kept, sort_keys=True).encode(), digest_size=16).hexdigest()
