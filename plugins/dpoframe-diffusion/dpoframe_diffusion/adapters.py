"""LoRA through diffusers and peft."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dpoframe import ConfigError
from dpoframe_diffusion.quiet import quiet

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LoraSection:
    """Low-rank adapters on linear and convolution layers (Hu et al. 2021, arXiv 2106.09685). The model itself stays frozen.

    Attributes:
        r: Rank.
        alpha: The adapter's output is multiplied by alpha / r. None for r, which every reader of the exported file
            understands: some take no notice of another value.
        target_modules: Ends of the names of the layers that get an adapter; None for the attention of the kind of model.
        seed: Seed of the adapters' first values.
    """

    r: int = 16
    alpha: float | None = None
    target_modules: tuple[str, ...] | None = None
    seed: int = 0

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def faults(self) -> list[str]:
        """Everything wrong with the values, each in a sentence."""
        rules = [
            (self.r < 1, f"lora.r is {self.r}; it must be at least 1."),
            (self.alpha is not None and not self.alpha > 0, f"lora.alpha is {self.alpha}; it must be above 0."),
            (self.target_modules == (), "lora.target_modules is empty; name layers, or leave the key out."),
        ]
        return [message for wrong, message in rules if wrong]

    def attach(self, denoiser: Any, targets: Sequence[str]) -> nn.Module:
        """The denoiser with fresh adapters, in float32; all else in it is frozen.

        Args:
            denoiser: A model of diffusers.
            targets: Ends of names, where the section gives none.

        Raises:
            ConfigError: no layer has such a name, or peft has no adapter for one that has.
        """
        import torch
        from peft import LoraConfig, get_peft_model

        alpha: Any = self.r if self.alpha is None else self.alpha
        names = list(self.target_modules or targets)
        # Gaussian, as diffusers' own training scripts start adapters.
        config = LoraConfig(r=self.r, lora_alpha=alpha, target_modules=names, init_lora_weights="gaussian")
        denoiser.requires_grad_(False)
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(self.seed)
            try:
                if hasattr(denoiser, "add_adapter"):
                    denoiser.add_adapter(config)
                else:
                    denoiser = get_peft_model(denoiser, config)
            except ValueError as error:
                raise ConfigError(f"lora.target_modules {names} do not fit {type(denoiser).__name__}: {error}") from error
        for parameter in denoiser.parameters():
            # Updates of a half precision weight would mostly be rounded away.
            parameter.data = parameter.data.float() if parameter.requires_grad else parameter.data
        made: nn.Module = denoiser
        return made


def has_adapter(model: nn.Module) -> bool:
    """Whether the model has layers of peft."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return any(isinstance(part, BaseTunerLayer) for part in model.modules())


@contextlib.contextmanager
def switched_off(model: nn.Module) -> Iterator[None]:
    """Context in which the model's adapters do nothing; afterwards what was trainable is trainable again.

    Works for models whose adapters diffusers put on, and for those that peft wraps. ConfigError for one without.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [part for part in model.modules() if isinstance(part, BaseTunerLayer)]
    if not layers:
        raise ConfigError(
            "reference kind 'adapter' needs a model with an adapter that can be switched off. "
            "Give the modality a lora section, or take reference kind 'copy' or 'cached'."
        )
    off = [layer for layer in layers if not layer.disable_adapters]
    # peft freezes an adapter that it switches off and frees it with the switch back on, also one that was frozen before.
    trained = [(parameter, parameter.requires_grad) for layer in off for parameter in layer.parameters()]
    try:
        for layer in off:
            layer.enable_adapters(False)
        yield
    finally:
        for layer in off:
            layer.enable_adapters(True)
        for parameter, before in trained:
            parameter.requires_grad_(before)


def without_dropout(model: nn.Module) -> None:
    """Sets every dropout rate of the model to 0: with it, policy and reference would differ before the first step."""
    import torch

    for part in model.modules():
        if isinstance(part, torch.nn.modules.dropout._DropoutNd):
            part.p = 0.0
