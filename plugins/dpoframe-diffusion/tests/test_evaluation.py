"""Evaluating an image generator: pictures of base and aligned from the same noise, drawn once, and the same in any batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from dpoframe_diffusion.adapters import LoraSection
from dpoframe_diffusion.framing import FramingSection
from dpoframe_diffusion.modality import DiffusionModality

from dpoframe.harness import EvalFolder, Subject, load_suite, run_suite

SUITE = """
name: discs
version: 1
prompts:
  - {id: one, prompt: a disc}
  - {id: two, prompt: something red}
pairs: {name: image_rows, path: pairs.jsonl}
generation: {steps: 2, width: 16, height: 16, guidance_scale: 2.0}
samples: 2
evaluators: [finished, {name: preference_accuracy, tolerance: 0.0}]
"""


@pytest.fixture
def suite(tmp_path: Path, picture: Callable[..., Any]) -> Any:
    """Two prompts with two pictures each, and three pairs."""
    rows = []
    for number in range(3):
        row = {"prompt": "a disc", "chosen": f"{number}-disc.png", "rejected": f"{number}-ring.png"}
        (tmp_path / row["chosen"]).write_bytes(picture(number, True).data)
        (tmp_path / row["rejected"]).write_bytes(picture(number, False).data)
        rows.append(json.dumps(row) + "\n")
    (tmp_path / "pairs.jsonl").write_text("".join(rows))
    (tmp_path / "discs.yaml").write_text(SUITE)
    return load_suite(tmp_path / "discs.yaml")


@pytest.fixture
def modality(sd: Path) -> DiffusionModality:
    """The Stable Diffusion with adapters."""
    return DiffusionModality(model=str(sd), framing=FramingSection(resolution=16), lora=LoraSection(r=2))


def moved(modality: DiffusionModality) -> Any:
    """Its model with adapters that do something."""
    model = modality.build()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(1))
    return model


def pictures(folder: Path) -> dict[str, bytes]:
    """The pictures of an evaluation, by the ids of their rows."""
    return {row.id: Path(row.response.path).read_bytes() for row in EvalFolder(folder).samples()}


def test_base_and_aligned(modality: DiffusionModality, suite: Any, tmp_path: Path) -> None:
    """One model with its adapters on and off: other pictures, kept as PNG files, and figures of both."""
    model = moved(modality)
    for name, off in (("aligned", False), ("base", True)):
        run_suite(Subject(name, modality, model, adapter_off=off), suite, tmp_path / name)
    aligned, base = pictures(tmp_path / "aligned"), pictures(tmp_path / "base")
    assert aligned.keys() == base.keys()
    assert len(set(aligned.values()) | set(base.values())) == 8
    assert all(content.startswith(b"\x89PNG") for content in aligned.values())
    metrics = EvalFolder(tmp_path / "aligned").document("results.json")["metrics"]
    assert all(figure["unscored"] == 0 for figure in metrics.values())
    assert any(name.startswith("preference_accuracy") for name in metrics)


def test_drawn_again_the_files_are_the_same(modality: DiffusionModality, suite: Any, tmp_path: Path) -> None:
    """A second run of the suite writes the same bytes, pictures included."""
    for name in ("one", "two"):
        run_suite(Subject("sd", modality, moved(modality)), suite, tmp_path / name)
    files = sorted(file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*") if "store" not in file.parts)
    assert any(file.suffix == ".png" for file in files)
    for file in files:
        if (tmp_path / "one" / file).is_file():
            assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


@pytest.mark.parametrize("lora", [None, LoraSection(r=2)])
def test_loaded_anew_it_is_the_same_model(sd: Path, tmp_path: Path, lora: LoraSection | None) -> None:
    """A model saved and loaded again has the digest it had in memory, adapter off or on: its pictures are not drawn twice."""
    modality = DiffusionModality(model=str(sd), lora=lora)
    model = moved(modality)
    modality.save(model, tmp_path)
    loaded = modality.load(tmp_path)
    for off in (False, True) if lora else (False,):
        one, two = (Subject(name, modality, which, adapter_off=off) for name, which in (("a", model), ("b", loaded)))
        assert one.digest == two.digest
