"""Tiny random models of several families, a batch with every awkward shape, and the plain way to score it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

VOCABULARY = 61
_SMALL = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_TOKENS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {**_SMALL, "num_key_value_heads": 2},
    "llama-tied": {**_SMALL, "num_key_value_heads": 4, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    "qwen2": {**_SMALL, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "qwen3": {**_SMALL, "num_key_value_heads": 1, "head_dim": 8},
    "mistral": {**_SMALL, "num_key_value_heads": 2, "sliding_window": 4},
    "gemma": {**_SMALL, "num_key_value_heads": 1, "head_dim": 8},
    "gpt2": {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "resid_pdrop": 0.0}
    | {"attn_pdrop": 0.0, "embd_pdrop": 0.0},
    "gemma2": {**_SMALL, "num_key_value_heads": 1, "head_dim": 8},
    "granite": {**_SMALL, "num_key_value_heads": 2, "logits_scaling": 3.0, "residual_multiplier": 0.5},
    "cohere": {**_SMALL, "num_key_value_heads": 2},
    "bloom": {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mamba": {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
}


@dataclass(frozen=True)
class Pair:
    """Token ids of one example."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]


def _make(family: str) -> nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(family.partition("-")[0], **FAMILIES[family], **_TOKENS)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        # Norms start at one and biases at zero, which would hide a weight that is left out.
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.train()


@pytest.fixture
def make_model() -> Callable[[str], nn.Module]:
    """Builds a tiny random causal language model of a family, in float32 and training mode."""
    return _make


@pytest.fixture(scope="session")
def stories() -> Path:
    """Folder of the real 260K-parameter model."""
    folder = Path(__file__).parents[4] / ".." / "shared" / "data" / "lm" / "stories260K_hf"
    if not folder.is_dir():
        pytest.skip("the data folder with stories260K is not beside the repository")
    return folder


@pytest.fixture
def examples() -> list[Pair]:
    """Five pairs, chosen first: two pairs of one prompt, an empty prompt, responses of one token, different prompts."""
    draw = torch.Generator().manual_seed(3)

    def words(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, VOCABULARY, (count,), generator=draw).tolist())

    one, two = words(7), words(3)
    chosen = [Pair(one, words(5)), Pair(two, words(1)), Pair((), words(4)), Pair(one, words(3)), Pair(words(1), words(9))]
    lengths = [2, 8, 6, 1, 4]
    return chosen + [Pair(pair.prompt, words(length)) for pair, length in zip(chosen, lengths, strict=True)]


@pytest.fixture
def partners() -> list[int | None]:
    """The other example of each pair."""
    return [5, 6, 7, 8, 9, 0, 1, 2, 3, 4]


@pytest.fixture
def plain_terms() -> Callable[[nn.Module, Sequence[Pair]], list[Tensor]]:
    """Log-probabilities of each example's scored tokens: one forward an example, log_softmax in float64, gather."""

    def terms(model: nn.Module, examples: Sequence[Pair]) -> list[Tensor]:
        found = []
        for example in examples:
            ids = torch.tensor([example.prompt + example.response])
            logps = model(ids, use_cache=False).logits[0].double().log_softmax(-1)
            first = max(len(example.prompt), 1)
            found.append(logps[first - 1 : -1].gather(1, ids[0, first:, None])[:, 0])
        return found

    return terms


@pytest.fixture
def gradients() -> Callable[[nn.Module, Tensor], Mapping[str, Tensor]]:
    """Gradients of a number by every trainable parameter, zeros where there is none."""

    def find(model: nn.Module, number: Tensor) -> Mapping[str, Tensor]:
        model.zero_grad()
        number.backward()
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in named}

    return find
