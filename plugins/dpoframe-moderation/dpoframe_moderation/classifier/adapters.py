"""What of a classifier is trained: all of it, its uppermost layers, low-rank adapters, or the head alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dpoframe import ConfigError
from dpoframe_moderation.classifier.quiet import quiet

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class LoraSection:
    """Low-rank adapters on linear layers (Hu et al. 2021, arXiv 2106.09685); the head beside them is trained whole.

    Attributes:
        r: Rank.
        alpha: The adapter's output is multiplied by alpha / r; 2 r where None.
        target_modules: `all-linear` (every linear layer but the head), or names of layers.
        top_layers: Adapters on this many of the uppermost layers only; the backward then ends below them.
        seed: Seed of the adapters' first values.
    """

    r: int = 16
    alpha: float | None = None
    target_modules: str | tuple[str, ...] = "all-linear"
    top_layers: int | None = None
    seed: int = 0

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def faults(self) -> list[str]:
        """Everything wrong with the values, each in a sentence."""
        found = [
            (self.r < 1, f"lora.r is {self.r}; it must be at least 1."),
            (self.top_layers is not None and self.top_layers < 1, f"lora.top_layers is {self.top_layers}; it must be at least 1."),
        ]
        return [message for wrong, message in found if wrong]

    def attach(self, model: PreTrainedModel) -> Any:
        """The model as a `PeftModel` with fresh adapters and its head trainable; all else in it is frozen."""
        import torch
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            task_type="SEQ_CLS",
            r=self.r,
            lora_alpha=2 * self.r if self.alpha is None else self.alpha,  # type: ignore[arg-type]  # peft divides it: floats do
            target_modules=self._targets(model),
            layers_to_transform=self._layers(model),
            modules_to_save=head_names(model),
        )
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(self.seed)
            try:
                return get_peft_model(model, config)
            except ValueError as error:
                raise ConfigError(f"The adapters do not fit {type(model).__name__}: {error}") from error

    def _targets(self, model: PreTrainedModel) -> str | list[str]:
        """Names of the layers to adapt. peft would count a head of several layers among `all-linear`, so it is written out."""
        if self.target_modules != "all-linear":
            return self.target_modules if isinstance(self.target_modules, str) else list(self.target_modules)
        import torch

        body = getattr(model, model.base_model_prefix)
        linear = (name.split(".") for name, part in body.named_modules() if isinstance(part, torch.nn.Linear))
        # Those of numbered layers: a pooler belongs to none, and some heads are called like it.
        found = {parts[-1] for parts in linear if any(part.isdigit() for part in parts)}
        return sorted(found) or "all-linear"

    def _layers(self, model: PreTrainedModel) -> list[int] | None:
        if self.top_layers is None:
            return None
        count = int(model.config.get_text_config().num_hidden_layers)
        if self.top_layers > count:
            raise ConfigError(f"lora.top_layers is {self.top_layers}, and the model has {count} layers.")
        return list(range(count - self.top_layers, count))


def head_names(model: PreTrainedModel) -> list[str]:
    """Names of the parts that stand on the encoder and have weights: the head."""
    return [
        name for name, part in model.named_children() if name != model.base_model_prefix and any(True for _ in part.parameters())
    ]


def freeze_body(model: PreTrainedModel, top_layers: int = 0) -> None:
    """Freezes all but the head, this many of the uppermost layers, and where there are any, what stands on the layers (a pooler).

    Raises:
        ConfigError: The model has fewer layers.
    """
    heads = head_names(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in heads)
    if top_layers:
        _free_top(getattr(model, model.base_model_prefix), top_layers)


def _free_top(body: nn.Module, count: int) -> None:
    layers = {name: next((int(part) for part in name.split(".") if part.isdigit()), -1) for name, _ in body.named_parameters()}
    above = max(layers.values()) + 1
    if count > above:
        raise ConfigError(f"top_layers is {count}, and the model has {above} layers.")
    holder = next(name.split(".")[0] for name, layer in layers.items() if layer >= 0)
    children = [name for name, _ in body.named_children()]
    after = children[children.index(holder) + 1 :]
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(layers[name] >= above - count or name.split(".")[0] in after)


def without_dropout(model: nn.Module) -> None:
    """Sets every dropout rate of the model to 0: with it, policy and reference would differ before the first step."""
    import torch

    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        if isinstance(getattr(part, "attention_dropout", None), float):
            part.attention_dropout = 0.0  # type: ignore[assignment]
