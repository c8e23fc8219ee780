"""The parts of a causal language model that scoring runs one by one: the transformer, the head, what follows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class Parts:
    """A causal language model taken apart.

    Attributes:
        model: The causal language model under any adapter wrapper.
        decoder: Its transformer: token ids to hidden states.
        head: Hidden states to logits.
        multiplier: The logits are multiplied by this (Cohere, Granite).
        softcap: The logits then become softcap * tanh(logits / softcap) (Gemma 2).
    """

    model: nn.Module
    decoder: nn.Module
    head: nn.Module
    multiplier: float = 1.0
    softcap: float | None = None

    @property
    def plain(self) -> bool:
        """Whether the logits are weight times hidden state plus bias, and nothing watches or changes the head."""
        from torch.nn.utils.parametrize import is_parametrized

        head: Any = self.head
        hooked = head._forward_hooks or head._forward_pre_hooks or head._backward_hooks or head._backward_pre_hooks
        linear = type(head) is nn.Linear and head.weight.is_floating_point() and not hooked and not is_parametrized(head)
        return bool(linear and self.multiplier == 1.0 and self.softcap is None)

    def logits(self, hidden: Tensor) -> Tensor:
        """(rows, D) to (rows, V) float32, as the model's own forward forms them."""
        logits: Tensor = self.head(hidden)
        if self.multiplier != 1.0:
            logits = logits * self.multiplier
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits if logits.dtype == torch.float64 else logits.float()


def take_apart(model: Any) -> Parts | None:
    """Transformer and head of a causal language model, through peft's wrappers; None where they cannot be told apart."""
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder = getattr(base, getattr(base, "base_model_prefix", "") or "-", None)
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    prompt_learning = any(getattr(config, "is_prompt_learning", False) for config in getattr(model, "peft_config", {}).values())
    # Sharded weights (FSDP2) are gathered by the model's own forward and must not be read outside it.
    sharded = hasattr(getattr(head, "weight", None), "device_mesh")
    if decoder is None or head is None or decoder is base or prompt_learning or sharded:
        return None
    config = base.config
    divisor = getattr(config, "logits_scaling", None) or 1.0
    multiplier = (getattr(config, "logit_scale", None) or 1.0) / divisor
    return Parts(base, decoder, head, multiplier, getattr(config, "final_logit_softcapping", None))


def checkpointed_logps(parts: Parts, hidden: Tensor, targets: Tensor, bounds: tuple[tuple[int, int], ...]) -> tuple[Tensor, Tensor]:
    """As `row_logps`, for any head: calls the module tile by tile and calls it again in the backward."""
    pieces = [
        checkpoint(
            _tile, parts, hidden[start:stop], targets[start:stop], use_reentrant=False, preserve_rng_state=parts.head.training
        )
        for start, stop in bounds
    ]
    if not pieces:
        return hidden.new_zeros(0), hidden.new_zeros(0)
    logps, collision = zip(*pieces, strict=True)
    return torch.cat(logps), torch.cat(collision).detach()


def pick(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and log sum_v p_v^2, from (rows, V) logits."""
    logps = torch.log_softmax(logits, -1)
    collision = torch.logsumexp(2 * logps.detach(), -1)
    return logps.gather(1, targets[:, None])[:, 0], collision


def _tile(parts: Parts, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return pick(parts.logits(hidden), targets)
