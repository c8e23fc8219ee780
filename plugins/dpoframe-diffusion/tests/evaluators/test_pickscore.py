"""PickScore: the arithmetic, and where its vocabulary may stand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from dpoframe_diffusion.evaluators.clip_score import ClipScore
from dpoframe_diffusion.evaluators.pickscore import PickScore
from safetensors.torch import load_file, save_file

from dpoframe import Available, Refused, Sample
from dpoframe.testing import EvaluatorContract


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, new_clip: Callable[..., Path]) -> Path:
    """A CLIP whose logit_scale is not the one that CLIPs begin with."""
    made = new_clip(tmp_path_factory.mktemp("weights") / "tiny-pick", seed=3)
    state = load_file(made / "model.safetensors")
    state["logit_scale"] = torch.tensor(4.6052)
    save_file(state, made / "model.safetensors", metadata={"format": "pt"})
    return made


class TestContract(EvaluatorContract):
    """The contract of pickscore."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def given(cls, folder: Path, samples: tuple[Sample, ...]) -> None:
        """What is checked."""
        cls.evaluator, cls.samples = PickScore(str(folder), str(folder)), samples


def test_is_the_scaled_cosine(folder: Path, samples: tuple[Sample, ...]) -> None:
    """A score is e^4.6052 = 100.003 times the cosine, which another test holds against arithmetic written out."""
    for sample in samples[:5]:
        cosine = ClipScore(str(folder)).score(sample)["cosine"]
        assert PickScore(str(folder)).score(sample)["score"] == pytest.approx(100.00328 * cosine, rel=1e-5)


def test_vocabulary_may_stand_elsewhere(folder: Path, clip_folder: Path, tmp_path: Path, samples: tuple[Sample, ...]) -> None:
    """Weights without a vocabulary take it from `processor`, whose weights are not read, and refuse where that is missing."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder / name, bare / name)
    beside = tmp_path / "beside"
    shutil.copytree(clip_folder, beside, ignore=shutil.ignore_patterns("*.safetensors"))
    whole, apart = PickScore(str(folder)), PickScore(str(bare), str(beside))
    assert isinstance(apart.probe(), Available)
    assert apart.score(samples[0]) == whole.score(samples[0])
    assert len(apart.spec.assets) == 2
    state = PickScore(str(bare), str(tmp_path / "none")).probe()
    assert isinstance(state, Refused)
    assert "none" in state.reason


def test_commands_fetch_weights_and_vocabulary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is missing is told with the command; for the vocabulary alone it fetches no weights."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    state = PickScore().probe()
    assert isinstance(state, Refused)
    commands = [line for line in state.fix.splitlines() if "hf download" in line]
    assert commands == [
        'Fetch it once: hf download yuvalkirstain/PickScore_v1 --include "*.json" "*.txt" "*.safetensors"',
        'Fetch it once: hf download laion/CLIP-ViT-H-14-laion2B-s32B-b79K --include "*.json" "*.txt"',
    ]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    state = PickScore().probe()
    assert isinstance(state, Refused)
    assert "HF_HUB_OFFLINE is set here: fetch elsewhere with --local-dir" in state.fix
