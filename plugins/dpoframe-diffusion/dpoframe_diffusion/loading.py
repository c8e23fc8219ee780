"""Finding a pipeline, reading what its files say of it, and loading its denoiser, with errors that say what to do."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from dpoframe import CheckpointError, ConfigError, DpoframeError, Fault, MachineError
from dpoframe_diffusion.families import Family, family_of
from dpoframe_diffusion.quiet import quiet

if TYPE_CHECKING:
    from torch import nn

    from dpoframe_diffusion.process import Process

DtypeName: TypeAlias = Literal["float32", "bfloat16", "float16"]

INDEX = "model_index.json"
PICKLED = (
    " Weights are read from .safetensors alone: a .bin is a pickle, which can run code when it is read. The hub converts on "
    "request, and `save_pretrained` of diffusers writes safetensors where you trust the files."
)
_WEIGHTS = re.compile(r"diffusion_pytorch_model(\.(?P<variant>\w+))?(-\d+-of-\d+)?\.(safetensors|bin)")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class Location:
    """A pipeline in the layout of diffusers: a folder, or a name on the Hugging Face hub, which is downloaded when asked for.

    Attributes:
        model: What the recipe calls it.
        revision: Branch, tag or commit on the hub.
        variant: Which of several sets of weights is meant, such as `fp16`.
    """

    model: str
    revision: str | None = None
    variant: str | None = None

    @cached_property
    def folder(self) -> Path:
        """The folder that holds model_index.json.

        Raises:
            ConfigError: there is no pipeline of that name.
            MachineError: it lies on the hub, which cannot be reached.
        """
        path = Path(self.model).expanduser()
        if path.is_dir():
            return _checked(path.resolve())
        if path.exists():
            raise ConfigError(
                f"{path} is a file, and a pipeline is a folder that holds {INDEX}. Convert a single file with "
                "`StableDiffusionPipeline.from_single_file(...)` of diffusers and `save_pretrained`."
            )
        if self.model.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(self.model):
            raise ConfigError(
                f"There is no pipeline at {self.model!r}. Give a folder that holds {INDEX}, or a name on the Hugging Face hub "
                "such as 'stabilityai/stable-diffusion-xl-base-1.0'. Where it was moved, say so with --set modality.model=FOLDER."
            )
        return self._downloaded()

    @cached_property
    def index(self) -> Mapping[str, Any]:
        """What model_index.json holds: the pipeline's class and the library and class of each part.

        ConfigError where a part's class is code of the pipeline's own, or of a library that pipelines are not made of.
        """
        found = _json(self.folder / INDEX)
        if foreign := list(_foreign(found, self.folder)):
            raise ConfigError(
                f"The pipeline {self.model} brings code of its own, or wants a library imported: {', '.join(foreign)}. No code of "
                "a pipeline is run here. Use one whose parts are classes of diffusers and transformers."
            )
        return found

    @cached_property
    def family(self) -> Family:
        """The kind of pipeline. ConfigError for one that cannot be aligned."""
        return family_of(str(self.index.get("_class_name", "")), f"The pipeline {self.model}")

    @cached_property
    def process(self) -> Process:
        """The noising process. ConfigError for a kind of prediction that is not handled."""
        return self.family.process(self.settings("scheduler"))

    def config(self, part: str) -> Mapping[str, Any]:
        """What the config of a part holds, such as `vae` or `scheduler`; ConfigError where the pipeline lacks it."""
        kind = part.partition("_")[0]
        name = f"{kind}_config.json" if kind in ("scheduler", "tokenizer") else "config.json"
        if not (self.folder / part / name).is_file():
            raise ConfigError(f"The pipeline {self.model} lacks {part}/{name}. Copy the part from where the pipeline came from.")
        return _json(self.folder / part / name)

    def settings(self, part: str) -> Mapping[str, Any]:
        """What a part of diffusers works with: its config, and where that says nothing the defaults of its class.

        Old configs leave out what came later: those of the VAEs of Stable Diffusion 1.x have no `scaling_factor`.
        """
        found = self.config(part)
        return {**_defaults(str(found.get("_class_name", ""))), **found}

    @cached_property
    def tokens(self) -> Mapping[str, int]:
        """How many tokens of a caption each tokenizer of the pipeline reads."""
        names = [name for name in self.family.text_parts if name.startswith("tokenizer") and (self.index.get(name) or [None])[0]]
        return {name: self.family.reads.get(name) or int(self.config(name).get("model_max_length", 77)) for name in names}

    def outline(self, dtype: DtypeName = "float32") -> nn.Module:
        """The denoiser from its config alone, its values drawn at random. CheckpointError for a config that is none."""
        import torch

        part, kind = self.family.denoiser, self._denoiser_class()
        with self.explained(part):
            made: nn.Module = kind.from_config(dict(self.config(part))).to(getattr(torch, dtype))
        return made

    def _denoiser_class(self) -> Any:
        import diffusers

        part = self.family.denoiser
        name = str(self.config(part).get("_class_name", ""))
        kind = getattr(diffusers, name, None)
        if kind is None:
            raise ConfigError(
                f"The {part} of {self.model} is a {name or 'thing without a class name'}, which diffusers does not have."
            )
        return kind

    def denoiser(self, dtype: DtypeName = "float32") -> nn.Module:
        """The part that is trained, alone. CheckpointError where its weights are damaged or incomplete."""
        import torch

        part, kind = self.family.denoiser, self._denoiser_class()
        name = kind.__name__
        with self.explained(part):
            model, told = kind.from_pretrained(
                self.folder,
                subfolder=part,
                torch_dtype=getattr(torch, dtype),
                variant=self.variant,
                use_safetensors=True,
                output_loading_info=True,
            )
        if missing := sorted(told["missing_keys"]):
            raise CheckpointError(
                f"The {part} of {self.model} lacks {len(missing)} weights of a {name} ({', '.join(missing[:3])}, ...); they "
                "would be random. Copy its files again from where the pipeline came from."
            )
        made: nn.Module = model
        return made

    def variant_fault(self) -> Fault | None:
        """What is wrong with `variant`, going by the names of the denoiser's files; None where nothing is."""
        part = self.family.denoiser
        matches = [_WEIGHTS.fullmatch(file.name) for file in (self.folder / part).glob("*")]
        found = sorted({match["variant"] or "" for match in matches if match})
        if not found or (self.variant or "") in found:
            return None
        if "" in found:
            return Fault("modality.variant", f"is {self.variant}, and the {part} has no such weights.", "Leave the key out.")
        asked = f"is {self.variant}" if self.variant else "is not given"
        said = f"{asked}, and the {part} has weights of {', '.join(found)} alone."
        return Fault("modality.variant", said, f"Set variant: {found[0]}.")

    @contextlib.contextmanager
    def explained(self, part: str) -> Iterator[None]:
        """Turns the many errors of the libraries on a part's files into one of dpoframe's."""
        try:
            with quiet():
                yield
        except DpoframeError:
            raise
        except MemoryError as error:
            raise MachineError(f"There is not enough memory to load the {part} of {self.model}.") from error
        except Exception as error:  # the libraries raise nearly every type on a broken file
            said = str(error).strip().splitlines() or [type(error).__name__]
            hint = PICKLED if "safetensors" in str(error) and list(self.folder.glob("*/*.bin")) else ""
            raise CheckpointError(f"The {part} of the pipeline {self.model} cannot be loaded: {said[0]}{hint}") from error

    def _downloaded(self) -> Path:
        """The folder that the hub's client keeps; only the files that the pipeline needs."""
        from diffusers import DiffusionPipeline

        wanted = {"revision": self.revision, "variant": self.variant, "use_safetensors": True}
        with quiet():
            try:
                return Path(DiffusionPipeline.download(self.model, local_files_only=True, **wanted))
            except Exception as absent:  # not kept here, or only in part
                if not hub_reachable():
                    raise self._unreachable() from absent
            try:
                return Path(DiffusionPipeline.download(self.model, **wanted))
            except Exception as error:
                raise self._unreachable() from error

    def _unreachable(self) -> MachineError:
        at = f" at revision {self.revision}" if self.revision else ""
        return MachineError(
            f"The pipeline {self.model}{at} is neither a folder nor kept on this machine, and it cannot be fetched from the hub. "
            f"Check name and network, or fetch it elsewhere with `hf download {self.model}` and give the folder."
        )


# Whole pipelines that were loaded in this process, by the name of what they were made from: a run folder that is read on
# another machine brings its VAE and text encoders itself.
_HOMES: dict[str, str] = {}


def settle(model: str, folder: Path) -> None:
    """Notes a folder with the parts of the pipeline `model`, for where that itself is not at hand."""
    _HOMES[model] = str(folder)


@lru_cache(maxsize=8)
def location(model: str, revision: str | None = None, variant: str | None = None) -> Location:
    """The location of that name, found once in a process; errors as those of `Location.folder`."""
    found = Location(model, revision, variant)
    try:
        found.folder  # noqa: B018
    except DpoframeError:
        if model not in _HOMES:
            raise
        return Location(_HOMES[model])
    return found


def hub_reachable() -> bool:
    """Whether the hub's name resolves: its client would try for most of a minute before it gave up.

    Behind a proxy names need not resolve, so there the client is left to find out.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    try:
        socket.getaddrinfo(urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").hostname, 443)
    except OSError:
        return False
    return True


def _foreign(index: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Parts of a pipeline that diffusers or transformers do not have, as `part: library.Class`."""
    if not isinstance(index.get("_class_name"), str):
        yield f"{INDEX}: {index.get('_class_name')!r:.80}"
    for part, entry in index.items():
        library = entry[0] if isinstance(entry, list) and entry else None
        if library is None or part.startswith("_"):
            continue
        if not _is_known(str(library)) or (folder / part / f"{library}.py").is_file():
            yield f"{part}: {'.'.join(map(str, entry))[:80]}"


def _is_known(library: str) -> bool:
    """Whether diffusers loads parts of pipelines from a library; its own modules of pipelines count as such."""
    if library in ("diffusers", "transformers"):
        return True
    with quiet():
        from diffusers import pipelines
    return library.isidentifier() and hasattr(pipelines, library)


def _checked(folder: Path) -> Path:
    if (folder / INDEX).is_file():
        return folder
    names = sorted(entry.name for entry in folder.iterdir())
    inner = [name for name in names if (folder / name / INDEX).is_file()]
    hint = f" Did you mean {str(folder / inner[0])!r}?" if inner else ""
    if "pytorch_lora_weights.safetensors" in names:
        hint = hint or " It holds adapters; give the pipeline that they were trained on."
    if "config.json" in names:
        hint = hint or " It looks like one part of a pipeline; give the folder above it."
    raise ConfigError(f"{folder} holds no {INDEX}, so it is no pipeline (found: {', '.join(names[:8]) or 'nothing'}).{hint}")


@lru_cache(maxsize=32)
def _defaults(kind: str) -> Mapping[str, Any]:
    """What the parameters of a class of diffusers are unless they are given; nothing for a class that it does not have."""
    import diffusers

    with quiet():
        found: Any = getattr(diffusers, kind, None) if kind else None
    if not isinstance(found, type):
        return {}
    parameters = inspect.signature(found).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def _json(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise MachineError(f"{file} cannot be read: {error.strerror}. Change its permissions, or copy the pipeline.") from error
    except ValueError as error:
        raise CheckpointError(f"{file} is no JSON ({error}). Copy it again from where the pipeline came from.") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} must hold a JSON object, found a {type(found).__name__}. Copy it again.")
    return found
