"""A run goes on comparing with its own base, however it was evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dpoframe.align import align
from dpoframe.config import load_recipe
from dpoframe.harness import Subject
from dpoframe.harness.comparison.matching import compare_runs
from dpoframe.harness.evaluate import evaluate
from dpoframe.plugins import PluginHost
from dpoframe.testing.toy import ToyModality


@pytest.mark.filterwarnings("ignore:.*chosen response is the:RuntimeWarning")  # what the check says of the toy's lengths
@pytest.mark.parametrize("adapter", [False, True])
def test_a_run_that_is_evaluated_again_compares(tmp_path: Path, suite_file: Path, plugins: PluginHost, adapter: bool) -> None:
    """Margins of a run, evaluated by itself after it was aligned, are held against the very base that was evaluated before."""
    made = load_recipe(
        {
            "modality": {"name": "toy", "adapter": adapter},
            "data": {"name": "toy", "count": 32},
            "loss": {"name": "sigmoid", "beta": 0.5},
            "trainer": {"max_steps": 8, "batch_size": 8, "lr": 0.05, "accelerator": "cpu", "devices": 1},
            "evaluate": [str(suite_file)],
        }
    )
    align(made, tmp_path / "run", host=plugins)
    evaluate(str(tmp_path / "run"), [suite_file], plugins=plugins)
    (found,), _ = compare_runs(tmp_path / "run")
    assert found.left_out == {}
    assert found["preference_accuracy"].before.value == 0.5


def test_a_base_is_the_same_under_any_adapter() -> None:
    """What an adapter has learnt is no part of the model without it, and what the model is made of is."""
    modality = ToyModality(adapter=True)
    model, other = modality.build(), ToyModality(adapter=True, init_seed=1).build()
    before = Subject("base", modality, model, adapter_off=True).digest
    on = Subject("aligned", modality, model).digest
    torch.nn.init.normal_(model.adapter.weight)  # type: ignore[union-attr, arg-type]
    assert Subject("base", modality, model, adapter_off=True).digest == before
    assert Subject("aligned", modality, model).digest != on
    assert Subject("base", modality, other, adapter_off=True).digest != before


def test_a_base_is_the_same_under_another_lora() -> None:
    """Of peft's adapters too, whether they train or were loaded frozen, and whatever their scale."""
    peft = pytest.importorskip("peft")
    digests = []
    for alpha in (8, 16):
        torch.manual_seed(0)
        inner = torch.nn.Sequential(torch.nn.Linear(4, 4))
        torch.manual_seed(alpha)
        model = peft.get_peft_model(inner, peft.LoraConfig(target_modules=["0"], r=2, lora_alpha=alpha))
        digests += [Subject("base", ToyModality(), model, adapter_off=True).digest]
        model.requires_grad_(False)
        digests += [Subject("base", ToyModality(), model, adapter_off=True).digest]
    assert len(set(digests)) == 1
