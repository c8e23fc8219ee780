"""HPS v2: names of weights, the whole picture with bars, and the score."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dpoframe_diffusion.evaluators.clip_names import transformers_names
from dpoframe_diffusion.evaluators.clip_score import ClipScore
from dpoframe_diffusion.evaluators.hps import FILES, Hps, whole
from dpoframe_diffusion.evaluators.weights import MissingWeightsError
from PIL import Image
from safetensors.torch import load_file

from dpoframe import Available, Media, Refused, Sample
from dpoframe.testing import EvaluatorContract


@pytest.fixture(scope="module")
def parts(
    tmp_path_factory: pytest.TempPathFactory, clip_folder: Path, open_clip_state: Callable[[Path], dict[str, torch.Tensor]]
) -> tuple[Path, Path]:
    """Weights in the published layout (2.1), and an encoder's folder without its weights."""
    folder = tmp_path_factory.mktemp("hps")
    torch.save({"state_dict": open_clip_state(clip_folder)}, folder / FILES["2.1"])
    shutil.copytree(clip_folder, folder / "encoder", ignore=shutil.ignore_patterns("*.safetensors"))
    return folder / FILES["2.1"], folder / "encoder"


class TestContract(EvaluatorContract):
    """The contract of hps."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def given(cls, parts: tuple[Path, Path], samples: tuple[Sample, ...]) -> None:
        """What is checked."""
        cls.evaluator, cls.samples = Hps("2.1", *map(str, parts)), samples


def test_every_weight_finds_its_name(clip_folder: Path, open_clip_state: Callable[[Path], dict[str, torch.Tensor]]) -> None:
    """open_clip's names, with and without `module.` before them, become exactly those of transformers with equal weights."""
    expected = load_file(clip_folder / "model.safetensors")
    for before in ("", "module."):
        state = {f"{before}{name}": tensor for name, tensor in open_clip_state(clip_folder).items()}
        found = transformers_names({**state, f"{before}attn_mask": torch.zeros(40, 40)})
        assert set(found) == set(expected)
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    with pytest.raises(KeyError):
        transformers_names({"visual.head.weight": torch.zeros(1)})


def test_square_pictures_score_their_cosine(
    parts: tuple[Path, Path], clip_folder: Path, drawn: Callable[..., Image.Image], as_media: Callable[[Image.Image], Media]
) -> None:
    """A picture of the encoder's own size is neither resized nor framed, so its score is the CLIP cosine of the same weights."""
    for seed in range(3):
        sample = Sample("x", "a blue circle", as_media(drawn(seed, 32, 32)))
        expected = ClipScore(str(clip_folder)).score(sample)["cosine"]
        assert Hps("2.1", *map(str, parts)).score(sample)["score"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("width", "height"), [(64, 40), (40, 64), (48, 48), (20, 7), (300, 2), (1, 1)])
def test_the_whole_picture_is_seen(width: int, height: int, drawn: Callable[..., Image.Image]) -> None:
    """The longer side fills the frame, black bars fill the rest; pixels equal Pillow's bicubic filter on float channels."""
    image, mean, std = drawn(5, width, height), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    found = whole(image, 32, mean, std)[0].numpy()
    assert found.shape == (3, 32, 32)
    wide, high = (max(1, round(side * 32 / max(width, height))) for side in (width, height))
    left, top = (32 - wide) // 2, (32 - high) // 2
    for channel, band in enumerate(image.split()):
        small = Image.fromarray(np.asarray(band, dtype=np.float32) / 255).resize((wide, high), Image.Resampling.BICUBIC)
        expected = np.zeros((32, 32))
        expected[top : top + high, left : left + wide] = np.asarray(small)
        np.testing.assert_allclose(found[channel], (expected - mean[channel]) / std[channel], atol=2e-5)


def test_versions_do_not_mix(parts: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The id names the version, a file named after another version is refused, and the command fetches the right one."""
    assert Hps("2.1", *map(str, parts)).spec.id == "hps:v2.1"
    assert isinstance(Hps("2.1", *map(str, parts)).probe(), Available)
    state = Hps("2.0", *map(str, parts)).probe()
    assert isinstance(state, Refused)
    assert "is version 2.1, and version 2.0 is asked for" in state.reason
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for version, name in FILES.items():
        state = Hps(version).probe()  # type: ignore[arg-type]
        assert isinstance(state, Refused)
        assert f"hf download xswu/HPSv2 {name}" in state.fix


def test_other_weights_are_told(parts: tuple[Path, Path], tmp_path: Path, samples: tuple[Sample, ...]) -> None:
    """A file with other weights than the encoder's is told as such, not loaded in part."""
    state: dict[str, Any] = torch.load(parts[0], weights_only=True)["state_dict"]
    for name, changed in (("short", {k: v for k, v in state.items() if k != "visual.proj"}), ("other", {"weight": torch.zeros(1)})):
        torch.save({"state_dict": changed}, tmp_path / f"{name}.pt")
        with pytest.raises(MissingWeightsError, match="holds no CLIP of the size of"):
            Hps("2.1", str(tmp_path / f"{name}.pt"), str(parts[1])).score(samples[0])
