"""What of an adapter is part of a cached reference's name: only what has an effect before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dpoframe.testing.toy import ToyModality
from dpoframe.train.adapters import starting_state
from dpoframe.train.cache import store_digest, weights_digest
from dpoframe.train.precomputing import precompute_reference

STORIES = Path(__file__).parents[2] / ".." / "shared" / "data" / "lm" / "stories260K_hf"


class Small(nn.Module):
    """An embedding, two layers and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embedding, self.inner, self.head = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5)
        self.register_buffer("scale", torch.ones(2))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.head(self.inner(self.embedding(tokens)))
        return logits


def adapted(seed: int = 0, **given: Any) -> nn.Module:
    """The small model under LoRA."""
    peft = pytest.importorskip("peft")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made: nn.Module = peft.get_peft_model(Small(), peft.LoraConfig(**{"r": 2, "target_modules": ["inner"], **given}))
    return made


SETTINGS: list[dict[str, Any]] = [
    {},
    {"seed": 1},
    {"r": 3},
    {"target_modules": ["inner", "head"]},
    {"target_modules": ["embedding", "inner"]},
    {"modules_to_save": ["head"]},
    {"use_rslora": True, "lora_bias": True, "lora_dropout": 0.1},
]


@pytest.mark.parametrize("given", SETTINGS, ids=str)
def test_fresh_adapters_are_no_part_of_it(given: dict[str, Any]) -> None:
    """However they are set up, the name is that of the model without them, whose outputs they leave as they are to the bit."""
    model = adapted(**given).eval()
    assert weights_digest(model) == weights_digest(Small())
    assert sorted(name for name, _ in starting_state(model)) == sorted(Small().state_dict())
    assert torch.equal(model(torch.arange(5)), Small()(torch.arange(5)))


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({}, "lora_B"),
        ({"lora_bias": True}, "lora_B.default.bias"),
        ({"target_modules": ["embedding"]}, "lora_embedding_A"),
        ({"modules_to_save": ["head"]}, "modules_to_save"),
        ({}, "base_layer"),
        ({"modules_to_save": ["head"]}, "original_module"),
        ({"target_modules": ["head"]}, "embedding"),
    ],
    ids=str,
)
def test_what_was_trained_is(given: dict[str, Any], changed: str) -> None:
    """A factor that is zero no more, a copy that has moved, and any weight of the model itself change the name."""
    model, fresh = adapted(**given), weights_digest(adapted(**given))
    with torch.no_grad():
        next(value for name, value in model.named_parameters() if changed in name).view(-1)[0].add_(0.25)
    assert weights_digest(model) != fresh


def test_norms_of_dora_are() -> None:
    """DoRA divides by norms and multiplies by them, which is the identity only up to rounding: its tensors stay."""
    names = {name for name, _ in starting_state(adapted(use_dora=True))}
    assert {"inner.lora_A.default.weight", "inner.lora_magnitude_vector.default.weight"} <= names


def test_buffers_and_other_models_are() -> None:
    """A buffer that differs changes the name, and so do other weights."""
    other = Small()
    other.scale.mul_(2)  # type: ignore[operator]
    assert weights_digest(other) != weights_digest(Small())
    modality = ToyModality(adapter=True)
    assert store_digest(modality, modality.build(), [], "32-true") != store_digest(
        modality, ToyModality(adapter=True, init_seed=1).build(), [], "32-true"
    )


def test_runs_with_unlike_adapters_share_scores(make_recipe: Any, host: Any) -> None:
    """A language model scored once serves ranks 4 and 8, other layers, and training without adapters."""
    text = pytest.importorskip("dpoframe_text")
    if not STORIES.is_dir():
        pytest.skip(f"the model {STORIES.name} is not beside this checkout")
    host.register(text, "text")
    found = []
    for lora in ({"r": 4}, {"r": 8}, {"r": 4, "top_layers": 1}, None):
        modality = {"name": "text", "model": str(STORIES.resolve()), "lora": lora}
        made = make_recipe("trainer.precision=32-true", "plugins=[text, toy]", modality=modality, data={"name": "toy", "count": 6})
        found.append(precompute_reference(made, host))
    assert [report.computed for report in found] == [6, 0, 0, 0]
    assert len({report.folder for report in found}) == 1
