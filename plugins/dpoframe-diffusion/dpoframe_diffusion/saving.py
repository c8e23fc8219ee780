"""Writing models in the layout of diffusers: a file of LoRA weights, or a whole pipeline."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dpoframe import CheckpointError, MachineError
from dpoframe_diffusion.adapters import has_adapter
from dpoframe_diffusion.digests import part_files
from dpoframe_diffusion.loading import INDEX, Location
from dpoframe_diffusion.quiet import quiet

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dpoframe_diffusion.loading import DtypeName

LORA = "pytorch_lora_weights.safetensors"
"""The file that `load_lora_weights` of diffusers looks for."""

# Where diffusers keeps an adapter's configuration in that file, as JSON.
_CONFIG = "lora_adapter_metadata"
_BASE = "base_model"

_WHOLE = """\
```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("path/to/this/folder")
pipeline("what to draw").images[0].save("drawn.png")
```"""
_ADAPTERS = """\
```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained({arguments})
pipeline.load_lora_weights("path/to/this/folder")
pipeline("what to draw").images[0].save("drawn.png")
```"""


def usage(base: str, revision: str | None, *, whole: bool) -> str:
    """How a saved folder is loaded, in Markdown, for the model card.

    Args:
        base: The pipeline that was trained, a name or a folder.
        revision: Its revision on the hub.
        whole: Whether the folder is a whole pipeline.
    """
    arguments = json.dumps(base) + (f", revision={json.dumps(revision)}" if revision else "")
    return _WHOLE if whole else _ADAPTERS.format(arguments=arguments)


def save(model: nn.Module, location: Location, folder: Path, merge: bool = False) -> None:
    """Writes a denoiser into an existing folder.

    With adapters, that is one file which `load_lora_weights` of diffusers reads onto the base pipeline that it names.
    Without, or with `merge`, it is the whole pipeline: the frozen parts are copied from the base, file by file.

    Args:
        model: The denoiser.
        location: The pipeline it belongs to.
        folder: Where to.
        merge: Add adapters into the weights.

    Raises:
        MachineError: the weights cannot be written.
        OSError: another file cannot.
    """
    denoiser: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    if has_adapter(denoiser) and not merge:
        _save_lora(denoiser, location, folder / LORA)
        return
    _copy_frozen(location, folder)
    _save_weights(merged(denoiser) if has_adapter(denoiser) else denoiser, folder / location.family.denoiser)
    # A note of where the base lay on this machine.
    _edit(folder / location.family.denoiser / "config.json", drop="_name_or_path")


def load(folder: Path, location: Location, dtype: DtypeName) -> nn.Module:
    """The denoiser that `save` wrote; adapters stay switchable.

    Args:
        folder: What was written.
        location: The base pipeline, for adapters.
        dtype: Type of the weights; adapters keep their own.

    Raises:
        CheckpointError: there is no such model, it is damaged, or its adapters are of another base.
    """
    if (folder / LORA).is_file():
        return _with_lora(location.denoiser(dtype), folder / LORA, location)
    if (folder / INDEX).is_file():
        return Location(str(folder)).denoiser(dtype)
    raise CheckpointError(f"{folder} holds neither {LORA} nor {INDEX}, so there is no image model in it.")


def base_of(folder: Path) -> str | None:
    """The base pipeline that a folder's LoRA file names; None where there is no such file, or it names none.

    Raises:
        CheckpointError: the file is damaged.
    """
    file = folder / LORA
    return _read(file)[1].get(_BASE) if file.is_file() else None


def _save_weights(denoiser: Any, folder: Path) -> None:
    from safetensors import SafetensorError

    try:
        with quiet():
            denoiser.save_pretrained(folder)
    except SafetensorError as error:  # how the library tells of a full disk
        raise MachineError(f"The weights cannot be written to {folder} ({error}). Make room.") from error


def merged(denoiser: Any) -> Any:
    """A copy of a denoiser, on the CPU, with its active adapters added into the weights; it has none any more."""
    layers = _layers(denoiser)
    state = {_plain_name(name, layers): tensor.detach().cpu() for name, tensor in denoiser.state_dict().items()}
    state.pop("")
    for name, layer in layers.items():
        weight = state[f"{name}.weight"]
        for adapter in () if layer.merged else layer.active_adapters:
            delta = layer.get_delta_weight(adapter).detach().cpu()
            weight = (weight.to(delta.dtype) + delta).to(weight.dtype)
        state[f"{name}.weight"] = weight
    with torch.device("meta"):
        shell = type(denoiser).from_config(denoiser.config)
    shell.load_state_dict(state, assign=True)
    return shell.eval()


def _plain_name(name: str, layers: Mapping[str, Any]) -> str:
    """What a tensor is called in the model without adapters; empty for an adapter's own."""
    owner, _, rest = name.partition(".base_layer.")
    if rest and owner in layers:
        return f"{owner}.{rest}"
    owner, _, rest = name.partition(".lora_")
    return "" if rest and owner in layers else name


def _layers(denoiser: nn.Module) -> dict[str, Any]:
    """The layers that have adapters, by name."""
    from peft.tuners.lora import LoraLayer

    return {name: part for name, part in denoiser.named_modules() if isinstance(part, LoraLayer)}


def _save_lora(denoiser: Any, location: Location, file: Path) -> None:
    """Writes the adapters. Their scale is multiplied into the second matrix: not every reader takes notice of alpha."""
    from safetensors.torch import save as serialised

    prefix = location.family.denoiser
    tensors: dict[str, Tensor] = {}
    for name, layer in _layers(denoiser).items():
        for adapter in layer.active_adapters:
            down, up = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
            tensors[f"{prefix}.{name}.lora_A.weight"] = down.detach().cpu().contiguous()
            tensors[f"{prefix}.{name}.lora_B.weight"] = (up.detach() * layer.scaling[adapter]).cpu().contiguous()
    config = _plain_config(denoiser)
    told = json.dumps({f"{prefix}.{name}": value for name, value in config.items()}, sort_keys=True)
    file.write_bytes(_in_order(serialised(tensors, {"format": "pt", _BASE: location.model, _CONFIG: told})))


def _in_order(content: bytes) -> bytes:
    """A safetensors file with its header sorted: the library writes it in any order, and equal runs should write equal files."""
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def _plain_config(denoiser: Any) -> dict[str, Any]:
    """The adapters' configuration as JSON values, with the scale at 1."""
    config = next(iter(denoiser.peft_config.values()))
    found = {}
    for name, value in config.to_dict().items():
        listed = sorted(value) if isinstance(value, set) else value
        if isinstance(listed, str | int | float | list) or (isinstance(listed, dict) and listed):
            found[name] = listed
    return {**found, "lora_alpha": config.r, "use_rslora": False}


def _with_lora(denoiser: Any, file: Path, location: Location) -> nn.Module:
    """The denoiser with the adapters of a file, in the type in which they were written."""
    from peft import LoraConfig

    tensors, about = _read(file)
    prefix = f"{location.family.denoiser}."
    kept = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    told = json.loads(about.get(_CONFIG, "{}"))
    config = {name.removeprefix(prefix): value for name, value in told.items() if name.startswith(prefix)}
    if not kept or not config:
        raise CheckpointError(f"{file} holds no adapters of a {location.family.denoiser} that dpoframe wrote.")
    try:
        with quiet():
            denoiser.add_adapter(LoraConfig(**config))
        layers = _layers(denoiser)
        if wrong := sorted({name.rpartition(".lora_")[0] for name in kept} ^ layers.keys()):
            raise ValueError(f"{len(wrong)} layers are adapted in one and not in the other: {', '.join(wrong[:3])}")
        for name, layer in layers.items():
            _fill(layer.lora_A["default"], kept[f"{name}.lora_A.weight"], name)
            _fill(layer.lora_B["default"], kept[f"{name}.lora_B.weight"], name)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"The adapters in {file} do not fit the {location.family.denoiser} of {location.model} ({error}). "
            f"They were trained on {about.get(_BASE, 'another pipeline')}."
        ) from error
    return denoiser.eval()  # type: ignore[no-any-return]


def _fill(part: nn.Module, tensor: Tensor, name: str) -> None:
    weight: Any = part.weight
    if weight.shape != tensor.shape:
        raise ValueError(f"{name} has an adapter of shape {tuple(tensor.shape)}, expected {tuple(weight.shape)}")
    weight.data = tensor.to(weight.device)


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a LoRA file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            # Copied: a map of the file would change with it.
            return {name: opened.get_tensor(name).clone() for name in opened.keys()}, dict(opened.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is damaged or cannot be read ({error}). Copy it again.") from error


def _copy_frozen(location: Location, folder: Path) -> None:
    """Copies all of a pipeline but its denoiser: weights of one kind alone, under the names they have without a variant."""
    parts = [name for name, entry in location.index.items() if isinstance(entry, list) and entry[0] is not None]
    for part in parts:
        if part == location.family.denoiser:
            continue
        (folder / part).mkdir()
        for name, file in part_files(location, part).items():
            shutil.copyfile(file, folder / part / name)
            if location.variant and ".index." in name:
                text = (folder / part / name).read_text(encoding="utf-8")
                (folder / part / name).write_text(text.replace(f".{location.variant}", ""), encoding="utf-8")
    shutil.copyfile(location.folder / INDEX, folder / INDEX)
    _edit(folder / INDEX, drop="_name_or_path")


def _edit(file: Path, drop: str) -> None:
    """Takes one key out of a file of JSON."""
    content = json.loads(file.read_text(encoding="utf-8"))
    if content.pop(drop, None) is not None:
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
