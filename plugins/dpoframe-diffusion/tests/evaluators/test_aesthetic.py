"""LAION's aesthetic heads: the published values, the arithmetic, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from dpoframe_diffusion.evaluators.aesthetic import Aesthetic
from dpoframe_diffusion.evaluators.aesthetic_head import kind_of, read_head
from dpoframe_diffusion.evaluators.clip import clip_at
from dpoframe_diffusion.evaluators.picture import picture_of
from dpoframe_diffusion.evaluators.weights import Weights

from dpoframe import Available, Refused, Sample, UnscoredError
from dpoframe.testing import EvaluatorContract

STORED = Path(__file__).resolve().parents[5] / "shared" / "data" / "aesthetic"
V1, V2 = "sa_0_4_vit_l_14_linear.pth", "sac+logos+ava1-l14-linearMSE.pth"


def write_head(file: Path, widths: tuple[int, ...], seed: int = 0) -> Path:
    """A head in the layout of version 1 (two widths) or version 2, where dropout takes numbers between the layers."""
    draw = torch.Generator().manual_seed(seed)
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    places = ("",) if len(shapes) == 1 else tuple(f"layers.{place}." for place in (0, 2, 4, 6, 7)[: len(shapes)])
    state = {}
    for place, (out, into) in zip(places, shapes, strict=True):
        state[f"{place}weight"] = torch.randn(out, into, generator=draw)
        state[f"{place}bias"] = torch.randn(out, generator=draw)
    torch.save(state, file)
    return file


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A head of either version for vectors of 24 numbers."""
    folder = tmp_path_factory.mktemp("heads")
    return write_head(folder / "one.pth", (24, 1)), write_head(folder / "five.pth", (24, 20, 12, 8, 4, 1))


class TestFirst(EvaluatorContract):
    """The contract of aesthetic with a head of version 1."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def given(cls, clip_folder: Path, heads: tuple[Path, Path], samples: tuple[Sample, ...]) -> None:
        """What is checked."""
        cls.evaluator, cls.samples = Aesthetic(str(heads[0]), str(clip_folder)), samples


class TestSecond(EvaluatorContract):
    """The contract of aesthetic with a head of version 2."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def given(cls, clip_folder: Path, heads: tuple[Path, Path], samples: tuple[Sample, ...]) -> None:
        """What is checked."""
        cls.evaluator, cls.samples = Aesthetic(str(heads[1]), str(clip_folder)), samples


@pytest.mark.parametrize(
    ("head", "version", "low", "high"), [(V1, "v1", -2.457909, 11.304427), (V2, "v2", 1.655480, 5.746761)], ids=["v1", "v2"]
)
def test_published_embeddings_have_their_published_ratings(head: str, version: str, low: float, high: float) -> None:
    """The real heads give the embeddings that LAION stored as rating 0 and rating 9 the values known for them."""
    if not STORED.is_dir():
        pytest.skip(f"the published heads and embeddings are not here: {STORED}")
    read = read_head(STORED / head)
    assert kind_of(STORED / head) == version
    assert read.inputs == 768
    for name, expected in (("vit_l_14_rating0.npy", low), ("vit_l_14_rating9.npy", high)):
        vector = torch.from_numpy(np.load(STORED / name).reshape(-1)).float()
        assert read.rating(vector) == pytest.approx(expected, abs=2e-5)


def test_the_vector_has_length_1_before_the_head(clip_folder: Path, heads: tuple[Path, Path], samples: tuple[Sample, ...]) -> None:
    """A picture's rating is the head's affine maps, in float64, of its CLIP vector of length 1."""
    for head in heads:
        state = torch.load(head, weights_only=True)
        vector = clip_at(Weights(str(clip_folder)), "transformers").picture(picture_of(samples[0])).double().numpy()
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
        names = [name.removesuffix("weight") for name in state if name.endswith("weight")]
        for name in names:
            vector = state[f"{name}weight"].double().numpy() @ vector + state[f"{name}bias"].double().numpy()
        score = Aesthetic(str(head), str(clip_folder)).score(samples[0])
        assert score["score"] == pytest.approx(float(vector[0]), abs=1e-4)


def test_ids_name_version_and_encoder(clip_folder: Path, heads: tuple[Path, Path]) -> None:
    """Ratings of the two versions have different ids; both heads and encoders are assets by digest."""
    specs = [Aesthetic(str(head), str(clip_folder)).spec for head in heads]
    assert [spec.id for spec in specs] == ["aesthetic:v1:tiny-clip", "aesthetic:v2:tiny-clip"]
    assert len({asset.digest for spec in specs for asset in spec.assets}) == 3


def test_what_does_not_fit_is_refused(clip_folder: Path, heads: tuple[Path, Path], tmp_path: Path) -> None:
    """A head of another size, a file that is no head, one that is no file of weights, and none at all are refused."""
    wide = write_head(tmp_path / "wide.pth", (768, 1))
    state = Aesthetic(str(wide), str(clip_folder)).probe()
    assert isinstance(state, Refused)
    assert "vectors of 768 numbers" in state.reason
    torch.save({"weight": torch.zeros(2, 24), "bias": torch.zeros(2)}, tmp_path / "two.pth")
    (tmp_path / "text.pth").write_text("Not found")
    for name, reason in (("two.pth", "no head"), ("text.pth", "cannot be read"), ("none.pth", "no file")):
        state = Aesthetic(str(tmp_path / name), str(clip_folder)).probe()
        assert isinstance(state, Refused)
        assert reason in state.reason
        assert "curl -LO https://github.com/christophschuhmann/improved-aesthetic-predictor" in state.fix
    assert isinstance(Aesthetic(str(heads[0]), str(clip_folder)).probe(), Available)


def test_a_head_never_runs_code(tmp_path: Path, clip_folder: Path) -> None:
    """A head's file that would call something while it is unpickled is refused, and calls nothing."""

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "called",))

    torch.save({"weight": Trap()}, tmp_path / "trap.pth")
    assert isinstance(Aesthetic(str(tmp_path / "trap.pth"), str(clip_folder)).probe(), Refused)
    assert not (tmp_path / "called").exists()


def test_a_broken_picture_is_unscored(clip_folder: Path, heads: tuple[Path, Path], samples: tuple[Sample, ...]) -> None:
    """Bytes that are no picture have no rating."""
    with pytest.raises(UnscoredError, match="damaged"):
        Aesthetic(str(heads[0]), str(clip_folder)).score(samples[5])
