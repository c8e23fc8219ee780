"""A host with the toy parts, and a short way to a recipe and a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dpoframe import Example, Measure, PreferencePair, as_text, content_digest, hookimpl
from dpoframe.config import Recipe, load_recipe
from dpoframe.plugins import PluginHost
from dpoframe.testing import toy
from dpoframe.train.fit import FitResult, fit


@dataclass(frozen=True)
class MeasuredToy(toy.ToyModality):
    """The toy modality with sizes in characters. A prompt with the word `broken` gives scores that are no numbers."""

    shared_work: bool = False

    def measure(self, example: Example) -> Measure:
        """Characters, and the end of the response."""
        size = len(as_text(example.prompt)), len(as_text(example.response)) + 1
        return Measure(*size, content_digest(example.prompt), content_digest(example.response))

    def collate(self, examples: Any) -> dict[str, torch.Tensor]:
        """As the toy's, with a flaw where a prompt asks for one."""
        batch = super().collate(examples)
        flaw = torch.tensor([float("nan") if "broken" in as_text(example.prompt) else 0.0 for example in examples])
        return batch | {"prompt": batch["prompt"] + flaw[:, None]}


def weighted(count: int = 32, broken: int = -1) -> list[PreferencePair]:
    """Toy pairs with weights 1, 2, 3 by turns; the prompt of number `broken` is flawed."""
    pairs = []
    for number, pair in enumerate(toy.toy_pairs(count)):
        prompt = f"{pair.prompt} broken" if number == broken else pair.prompt
        pairs.append(PreferencePair(prompt, pair.chosen, pair.rejected, pair.id, weight=1.0 + number % 3))
    return pairs


class TestParts:
    """The plugin of these tests."""

    __test__ = False

    @hookimpl
    def dpoframe_modalities(self) -> Mapping[str, Any]:
        """The measured toy."""
        return {"measured": MeasuredToy}

    @hookimpl
    def dpoframe_datasets(self) -> Mapping[str, Any]:
        """The weighted pairs."""
        return {"weighted": weighted}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Reference scores go to a folder of the test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DPOFRAME_CACHE", str(folder))
    return folder


@pytest.fixture
def host() -> PluginHost:
    """The core's parts, the toy's, and those of these tests."""
    made = PluginHost(entry_points=[])
    made.register(toy, "toy")
    made.register(TestParts(), "parts")
    return made


@pytest.fixture
def make_recipe(host: PluginHost) -> Callable[..., Recipe]:
    """`make_recipe("trainer.lr=1", loss={...})`: a quick recipe in float64, changed by overrides and by whole sections."""

    def make(*changes: str, **sections: Any) -> Recipe:
        base = {
            "modality": {"name": "measured"},
            "data": {"name": "weighted", "count": 20},
            "loss": {"name": "sigmoid"},
            "reference": {"kind": "copy"},
            "trainer": {"max_steps": 3, "lr": 0.02, "warmup": 0, "precision": "64-true", "accelerator": "cpu", "devices": 1},
            "plugins": ["toy", "parts"],
        }
        return load_recipe({**base, **sections}, changes, host=host)

    return make


@pytest.fixture
def run(host: PluginHost, make_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., FitResult]:
    """Runs a recipe into a folder of its own: `run("name", *changes, resume=False, **sections)`."""

    def go(name: str, *changes: str, resume: bool = False, **sections: Any) -> FitResult:
        return fit(make_recipe(*changes, **sections), tmp_path / name, resume=resume, host=host)

    return go


def rows(result: FitResult | Path, stage: str | None = None) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl of one stage, without the clock's."""
    folder = result if isinstance(result, Path) else result.folder
    read = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    plain = ("tokens_per_second", "stage")
    return [{key: value for key, value in row.items() if key not in plain} for row in read if row.get("stage") == stage]


def weights(result: FitResult | Path) -> dict[str, torch.Tensor]:
    """The exported parameters."""
    folder = result if isinstance(result, Path) else result.folder
    return load_file(str(folder / "model" / "model.safetensors"))


@pytest.fixture
def look() -> Any:
    """The two readers above, since test modules do not import one another."""
    return type("Look", (), {"rows": staticmethod(rows), "weights": staticmethod(weights)})
