"""KID: the estimate against float64 arithmetic and torchmetrics, its subsets, resamples and references."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dpoframe_diffusion.evaluators.clip import clip_at
from dpoframe_diffusion.evaluators.features import features_at, width_of
from dpoframe_diffusion.evaluators.kid import Kid
from dpoframe_diffusion.evaluators.weights import Weights
from PIL import Image

from dpoframe import Available, DataError, Media, Refused, Sample, Scored
from dpoframe.testing import EvaluatorContract

FAKE, REAL = 10, 12


class TestContract(EvaluatorContract):
    """The contract of kid."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def given(cls, reference_folder: Path, clip_folder: Path, samples: tuple[Sample, ...]) -> None:
        """What is checked."""
        cls.evaluator, cls.samples = Kid(str(reference_folder), str(clip_folder), subsets=5, subset_size=4), samples


def vectors(folder: Path, images: list[Image.Image]) -> Any:
    """(N, D) in float64, as the network gives them."""
    network = features_at(Weights(str(folder)))
    return np.stack([network.vector(image).double().numpy() for image in images])


def scored(rows: Any) -> list[Scored]:
    """Vectors as `aggregate` gets them."""
    return [
        Scored(f"s{place:03}", f"c{place}", {f"v{k}": float(value) for k, value in enumerate(row)})
        for place, row in enumerate(rows)
    ]


def mmd(left: Any, right: Any) -> float:
    """The unbiased squared maximum mean discrepancy, summed pair by pair."""

    def kernel(x: Any, y: Any) -> float:
        return float((sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3)

    n, m = len(left), len(right)
    within = sum(kernel(left[i], left[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    others = sum(kernel(right[i], right[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within + others - 2 * sum(kernel(x, y) for x in left for y in right) / (n * m)


@pytest.fixture(scope="module")
def both(clip_folder: Path, reference_folder: Path, drawn: Callable[..., Image.Image]) -> tuple[Any, Any]:
    """Vectors of twelve other pictures, and of the references."""
    real = [Image.open(file).convert("RGB") for file in sorted(reference_folder.iterdir())]
    return vectors(clip_folder, [drawn(place) for place in range(REAL)]), vectors(clip_folder, real)


def test_one_subset_of_all_is_the_estimate(clip_folder: Path, reference_folder: Path, both: tuple[Any, Any]) -> None:
    """Where a subset holds every picture, kid is the written-out estimate and its spread over subsets is 0."""
    fake, real = both
    found = Kid(str(reference_folder), str(clip_folder), subsets=3, subset_size=REAL).aggregate(scored(fake))
    assert found["kid"] == pytest.approx(mmd(fake, real), rel=1e-9)
    assert found["subset_std"] == pytest.approx(0, abs=1e-9)
    assert abs(found["kid"]) > 1e-3


def test_equals_torchmetrics(clip_folder: Path, reference_folder: Path, both: tuple[Any, Any]) -> None:
    """Torchmetrics' distance of the same vectors, where no subset is drawn by chance, is the same to float32."""
    from torchmetrics.image.kid import KernelInceptionDistance

    with pytest.warns(UserWarning, match="save all extracted features"):
        metric = KernelInceptionDistance(torch.nn.Identity(), subsets=2, subset_size=REAL)
    for side, rows in zip((False, True), both, strict=True):
        metric.update(torch.from_numpy(rows).float(), real=side)
    found = Kid(str(reference_folder), str(clip_folder), subsets=2, subset_size=REAL).aggregate(scored(both[0]))
    assert found["kid"] == pytest.approx(float(metric.compute()[0]), rel=1e-4)


def test_subsets_are_means_of_the_estimate(clip_folder: Path, reference_folder: Path, both: tuple[Any, Any]) -> None:
    """Over many small subsets kid comes near the estimate of all pictures, whose expectation it shares; the seed decides it."""
    fake, real = both
    whole, many = mmd(fake, real), Kid(str(reference_folder), str(clip_folder), subsets=4000, subset_size=4)
    found = many.aggregate(scored(fake))
    assert found["kid"] == pytest.approx(whole, abs=5 * found["subset_std"] / math.sqrt(4000))
    assert found["subset_std"] > 0
    assert many.aggregate(scored(fake)[::-1]) == found
    assert replace(many, seed=1).aggregate(scored(fake)) != found


def test_equal_distributions_are_about_0(clip_folder: Path, tmp_path: Path, drawn: Callable[..., Image.Image]) -> None:
    """Two draws from one distribution of pictures have a distance near 0, far below that to pictures of another."""
    folder = tmp_path / "real"
    folder.mkdir()
    for place in range(30):
        drawn(1000 + place).save(folder / f"{place}.png")
    evaluator = Kid(str(folder), str(clip_folder), subsets=50, subset_size=20)
    same = evaluator.aggregate(scored(vectors(clip_folder, [drawn(2000 + place) for place in range(30)])))["kid"]
    grey = [Image.new("RGB", (32, 32), (8 * place,) * 3) for place in range(30)]
    other = evaluator.aggregate(scored(vectors(clip_folder, grey)))["kid"]
    assert other > 10 * abs(same)


def test_a_sample_drawn_twice_is_no_pair(clip_folder: Path, reference_folder: Path, both: tuple[Any, Any]) -> None:
    """In a resample the pairs of a sample with itself are left out; two samples with equal pictures are a pair."""
    fake, real = both
    evaluator = Kid(str(reference_folder), str(clip_folder), subsets=1, subset_size=REAL)
    rows = scored(fake)
    # The harness draws a sample again under another id, with the very same values.
    again = [rows[0], *(replace(rows[0], id=f"s000~{time}", cluster=f"c0~{time}") for time in range(1, 6)), *rows[6:]]
    weights = np.array([6, *([1] * 6)])
    own = np.stack([fake[0], *fake[6:]])
    gram = (own @ own.T / own.shape[1] + 1) ** 3
    pairs = np.outer(weights, weights) * (1 - np.eye(7))
    others = mmd(own, real) - ((gram * (1 - np.eye(7))).sum() / 42) + 2 * ((own @ real.T / own.shape[1] + 1) ** 3).mean()
    across = (weights @ ((own @ real.T / own.shape[1] + 1) ** 3)).sum() / (12 * REAL)
    assert evaluator.aggregate(again)["kid"] == pytest.approx((gram * pairs).sum() / pairs.sum() + others - 2 * across, rel=1e-9)
    equal = [rows[0], *(Scored(f"s{place:03}", f"c{place}", dict(rows[0].values)) for place in range(1, 6)), *rows[6:]]
    assert evaluator.aggregate(equal)["kid"] == pytest.approx(mmd(np.stack([*[fake[0]] * 6, *fake[6:]]), real), rel=1e-9)


def test_one_picture_has_no_distance(clip_folder: Path, reference_folder: Path, both: tuple[Any, Any]) -> None:
    """One picture, or one drawn over and over, gives nan: there is no pair of its own."""
    evaluator, [row] = Kid(str(reference_folder), str(clip_folder)), scored(both[0][:1])
    assert math.isnan(evaluator.aggregate([row])["kid"])
    assert math.isnan(evaluator.aggregate([row, replace(row, id="s000~1")])["kid"])


def test_references_are_an_asset(
    clip_folder: Path, reference_folder: Path, tmp_path: Path, drawn: Callable[..., Image.Image]
) -> None:
    """The id names the folder, whose digest changes with any picture in it; too few pictures are refused."""
    folder = tmp_path / "real"
    shutil.copytree(reference_folder, folder)
    evaluator = Kid(str(folder), str(clip_folder))
    before = evaluator.spec
    assert before.id == "kid:tiny-clip:real"
    assert before.assets[1].digest == Kid(str(reference_folder), str(clip_folder)).spec.assets[1].digest
    drawn(77).save(folder / "00.png")
    assert evaluator.spec.assets[1].digest != before.assets[1].digest
    (folder / "notes.txt").write_text("no picture")
    (folder / "deeper").mkdir()
    changed = evaluator.spec.assets[1].digest
    drawn(78).save(folder / "deeper" / "one.JPG", "JPEG")
    assert evaluator.spec.assets[1].digest != changed
    shutil.rmtree(folder / "deeper")
    assert evaluator.spec.assets[1].digest == changed
    for file in sorted(folder.glob("*.png"))[1:]:
        file.unlink()
    state = evaluator.probe()
    assert isinstance(state, Refused)
    assert "holds 1 pictures" in state.reason
    assert isinstance(Kid(str(tmp_path / "none"), str(clip_folder)).probe(), Refused)


def test_a_broken_reference_is_named(clip_folder: Path, reference_folder: Path, tmp_path: Path, both: tuple[Any, Any]) -> None:
    """A reference that cannot be read stops the figure with its name: the distance to the rest would be another one."""
    folder = tmp_path / "real"
    shutil.copytree(reference_folder, folder)
    (folder / "03.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"03\.png"):
        Kid(str(folder), str(clip_folder)).aggregate(scored(both[0]))


def test_any_vision_model_gives_vectors(tmp_path: Path, drawn: Callable[..., Image.Image]) -> None:
    """A vision model that is no CLIP gives its pooled output, of the length that its settings say."""
    from transformers import AutoModel, Dinov2Config, Dinov2Model, ViTImageProcessorPil

    config = Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8)
    Dinov2Model(config).save_pretrained(tmp_path)
    processor = ViTImageProcessorPil(size={"height": 16, "width": 16})
    processor.save_pretrained(tmp_path)
    weights = Weights(str(tmp_path))
    found = features_at(weights).vector(drawn(0))
    with torch.no_grad():
        expected = AutoModel.from_pretrained(tmp_path)(**processor(images=drawn(0), return_tensors="pt")).pooler_output[0]
    assert torch.allclose(found, expected, atol=1e-6)
    assert found.shape == (width_of(weights),)


def test_clip_vectors_keep_their_length(clip_folder: Path, drawn: Callable[..., Image.Image]) -> None:
    """The vector that KID reads is CLIP's embedding before it is brought to length 1."""
    raw = features_at(Weights(str(clip_folder))).vector(drawn(0))
    assert torch.allclose(raw / raw.norm(), clip_at(Weights(str(clip_folder)), "transformers").picture(drawn(0)), atol=1e-6)
    assert float(raw.norm()) != pytest.approx(1, abs=0.01)


def test_scores_are_vectors(clip_folder: Path, reference_folder: Path, samples: tuple[Sample, ...]) -> None:
    """A sample's score is its vector, which is for `aggregate` alone and no figure of its own."""
    evaluator = Kid(str(reference_folder), str(clip_folder))
    score = evaluator.score(samples[0])
    assert list(score) == [f"v{place}" for place in range(24)]
    assert evaluator.spec.metrics == {}
    assert evaluator.spec.carried == tuple(score)
    assert isinstance(evaluator.probe(), Available)
    assert isinstance(samples[0].response, Media)
