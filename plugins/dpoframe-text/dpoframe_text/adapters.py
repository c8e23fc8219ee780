"""LoRA through peft."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dpoframe import ConfigError
from dpoframe_text.quiet import quiet

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class LoraSection:
    """Low-rank adapters on linear layers (Hu et al. 2021, arXiv 2106.09685). The model itself stays frozen.

    Attributes:
        r: Rank.
        alpha: The adapter's output is multiplied by alpha / r; 2 r where None.
        dropout: Dropout on the adapter's input.
        target_modules: `all-linear` (every linear layer but the head), or names of layers.
        top_layers: Adapters on this many of the uppermost layers only; the backward then ends below them.
        layers_to_transform: Adapters on exactly these layers, counted from 0; excludes `top_layers`.
        modules_to_save: Further modules that are trained whole and saved with the adapter.
        rslora: Multiply by alpha / sqrt(r) instead (Kalajdzievski 2023, arXiv 2312.03732).
        seed: Seed of the adapters' first values.
    """

    r: int = 16
    alpha: float | None = None
    dropout: float = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"
    top_layers: int | None = None
    layers_to_transform: tuple[int, ...] | None = None
    modules_to_save: tuple[str, ...] = ()
    rslora: bool = False
    seed: int = 0

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def faults(self) -> list[str]:
        """Everything wrong with the values, each in a sentence."""
        found = [
            (self.r < 1, f"lora.r is {self.r}; it must be at least 1."),
            (not 0 <= self.dropout < 1, f"lora.dropout is {self.dropout}; it must be at least 0 and below 1."),
            (self.top_layers is not None and self.top_layers < 1, f"lora.top_layers is {self.top_layers}; it must be at least 1."),
            (
                self.top_layers is not None and self.layers_to_transform is not None,
                "lora.top_layers and lora.layers_to_transform exclude each other; give one.",
            ),
        ]
        return [message for wrong, message in found if wrong]

    def attach(self, model: PreTrainedModel) -> Any:
        """The model as a `PeftModel` with fresh adapters; all else in it is frozen."""
        import torch
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=self.r,
            lora_alpha=2 * self.r if self.alpha is None else self.alpha,  # type: ignore[arg-type]  # peft divides it: floats do
            lora_dropout=self.dropout,
            target_modules=self._targets(model),
            layers_to_transform=self._layers(model),
            modules_to_save=list(self.modules_to_save) or None,
            use_rslora=self.rslora,
        )
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(self.seed)
            try:
                return get_peft_model(model, config)
            except ValueError as error:
                raise ConfigError(f"The adapters do not fit {type(model).__name__}: {error}") from error

    def _targets(self, model: PreTrainedModel) -> str | list[str]:
        """Names of the layers to adapt. peft takes no layer numbers beside `all-linear`, so that is written out."""
        if self._layers(model) is None or self.target_modules != "all-linear":
            return self.target_modules if isinstance(self.target_modules, str) else list(self.target_modules)
        import torch

        head = model.get_output_embeddings()
        linear = (torch.nn.Linear, *_quantised())
        found = (name for name, part in model.named_modules() if isinstance(part, linear) and part is not head)
        return sorted({name.split(".")[-1] for name in found})

    def _layers(self, model: PreTrainedModel) -> list[int] | None:
        if self.layers_to_transform is not None:
            return list(self.layers_to_transform)
        if self.top_layers is None:
            return None
        count = int(model.config.get_text_config().num_hidden_layers)
        if self.top_layers > count:
            raise ConfigError(f"lora.top_layers is {self.top_layers}, and the model has {count} layers.")
        return list(range(count - self.top_layers, count))


@contextlib.contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Context in which adapters are added into the weights, which saves their share of each generated token.

    The original tensors are put back afterwards, so the weights are the same to the bit. Costs a copy of the adapted
    weights meanwhile; done for float32 weights on the CPU, where memory is large and small matrix products are slow.
    """
    import torch
    from peft.tuners.lora import Linear

    kept: list[tuple[Any, Any]] = []
    owners = Counter(id(weight) for part in model.modules() for weight in part._parameters.values())
    layers = [part for part in model.modules() if isinstance(part, Linear) and not part.merged and not part.disable_adapters]
    try:
        for layer in layers:
            weight = layer.get_base_layer().weight
            # A tied head: merged, its adapter would act in the embedding too.
            shared = owners[id(weight)] > 1
            if weight.device.type == "cpu" and weight.dtype == torch.float32 and not shared:
                kept.append((layer, weight.data))
                weight.data = weight.data.clone()
                layer.merge()
        yield
    finally:
        for layer, original in kept:
            layer.unmerge()
            layer.get_base_layer().weight.data = original


def without_dropout(model: nn.Module) -> None:
    """Sets every dropout rate of the model to 0: with it, policy and reference would differ before the first step."""
    import torch

    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        if isinstance(getattr(part, "attention_dropout", None), float):
            part.attention_dropout = 0.0  # type: ignore[assignment]


def _quantised() -> tuple[type, ...]:
    if importlib.util.find_spec("bitsandbytes") is None:
        return ()
    return (importlib.import_module("bitsandbytes.nn").Linear4bit,)
