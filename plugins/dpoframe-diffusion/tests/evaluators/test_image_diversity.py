"""Diversity: mean distances by hand, the two kinds of pairs, and resamples."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dpoframe_diffusion.evaluators.image_diversity import ImageDiversity

from dpoframe import Sample, Scored
from dpoframe.testing import EvaluatorContract

WIDTH = 24


class TestWithin(EvaluatorContract):
    """The contract of image_diversity among pictures of one prompt."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def given(cls, clip_folder: Path, samples: tuple[Sample, ...]) -> None:
        """What is checked."""
        cls.evaluator, cls.samples = ImageDiversity("prompt", str(clip_folder)), samples

    def _drawn(self, seed: int | None) -> list[Scored]:
        """As the harness does it, samples of one prompt are one cluster."""
        prompts = {sample.id: str(sample.prompt) for sample in self.samples}
        return [replace(one, cluster=prompts[one.id]) for one in super()._drawn(seed)]


class TestAcross(EvaluatorContract):
    """The contract of image_diversity among prompts."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def given(cls, clip_folder: Path, samples: tuple[Sample, ...]) -> None:
        """What is checked."""
        cls.evaluator, cls.samples = ImageDiversity("prompts", str(clip_folder)), samples


def scored(rows: Any, clusters: str) -> list[Scored]:
    """Vectors as `aggregate` gets them, one cluster a letter."""
    return [
        Scored(f"s{place}", cluster, {f"v{k}": float(value) for k, value in enumerate(row)})
        for place, (row, cluster) in enumerate(zip(rows, clusters, strict=True))
    ]


def distance(x: Any, y: Any) -> float:
    """1 minus the cosine."""
    return 1 - float(x @ y) / math.sqrt(float(x @ x) * float(y @ y))


@pytest.fixture(scope="module")
def rows() -> Any:
    """Seven vectors of different lengths."""
    draw = np.random.default_rng(0)
    return draw.normal(size=(7, WIDTH)) * draw.uniform(1, 5, size=(7, 1)) + 0.5


def test_within_is_a_mean_over_prompts(clip_folder: Path, rows: Any) -> None:
    """Each prompt counts once, by the mean over its own pairs; prompts with one picture do not count."""
    clusters = "aaabbcd"
    a = np.mean([distance(x, y) for x, y in itertools.combinations(rows[:3], 2)])
    b = distance(rows[3], rows[4])
    found = ImageDiversity("prompt", str(clip_folder)).aggregate(scored(rows, clusters))
    assert found["distance"] == pytest.approx((a + b) / 2, abs=1e-12)


def test_across_is_a_mean_over_pairs_of_prompts(clip_folder: Path, rows: Any) -> None:
    """Only pairs of pictures of different prompts count."""
    clusters = "aaabbcd"
    apart = [distance(rows[i], rows[j]) for i, j in itertools.combinations(range(7), 2) if clusters[i] != clusters[j]]
    found = ImageDiversity("prompts", str(clip_folder)).aggregate(scored(rows, clusters))
    assert found["distance"] == pytest.approx(np.mean(apart), abs=1e-12)


def test_equal_pictures_have_no_distance(clip_folder: Path, rows: Any) -> None:
    """A model that draws one picture over and over has 0 either way; without a pair there is no figure."""
    same = scored([rows[0]] * 4, "aabb")
    for among in ("prompt", "prompts"):
        evaluator = ImageDiversity(among, str(clip_folder))  # type: ignore[arg-type]
        assert evaluator.aggregate(same)["distance"] == pytest.approx(0, abs=1e-12)
        assert math.isnan(evaluator.aggregate(same[:1])["distance"])
    assert math.isnan(ImageDiversity("prompt", str(clip_folder)).aggregate(scored(rows, "abcdefg"))["distance"])
    assert math.isnan(ImageDiversity("prompts", str(clip_folder)).aggregate(scored(rows, "aaaaaaa"))["distance"])


def test_a_prompt_drawn_again_is_no_other_prompt(clip_folder: Path, rows: Any) -> None:
    """In a resample a prompt that is drawn twice counts twice within, and makes no pairs with itself across."""
    first = scored(rows, "aaabbcd")
    again = [replace(one, id=f"{one.id}~1", cluster="b~1") for one in first[3:5]]
    drawn = [*first[:5], *again]
    a = np.mean([distance(x, y) for x, y in itertools.combinations(rows[:3], 2)])
    b = distance(rows[3], rows[4])
    assert ImageDiversity("prompt", str(clip_folder)).aggregate(drawn)["distance"] == pytest.approx((a + 2 * b) / 3, abs=1e-12)
    pairs = np.mean([distance(x, y) for x in rows[:3] for y in rows[3:5]])
    assert ImageDiversity("prompts", str(clip_folder)).aggregate(drawn)["distance"] == pytest.approx(pairs, abs=1e-12)


def test_ids_name_pairs_and_encoder(clip_folder: Path) -> None:
    """The two kinds of pairs have ids of their own, so one suite may hold both."""
    ids = [ImageDiversity(among, str(clip_folder)).spec.id for among in ("prompt", "prompts")]  # type: ignore[arg-type]
    assert ids == ["image_diversity:prompt:tiny-clip", "image_diversity:prompts:tiny-clip"]
