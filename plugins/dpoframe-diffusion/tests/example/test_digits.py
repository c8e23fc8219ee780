"""The digits: shares that no picture crosses, pictures that hold what the cells hold, pairs that are what they say."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pytest
from dpoframe_diffusion.example import digits as shelf
from dpoframe_diffusion.example import legibility
from dpoframe_diffusion.example.bolder_pairs import MARGIN, bolder_pairs
from dpoframe_diffusion.example.digits import SHARES, SIDE, WORDS, digits
from dpoframe_diffusion.example.ink import Ink
from dpoframe_diffusion.example.legibility import Legibility

from dpoframe import Media, MissingExtraError, Sample
from dpoframe.testing import DatasetContract, EvaluatorContract


def pixels(media: Media) -> np.ndarray:
    """RGB bytes of a PNG, read here by Pillow alone."""
    from PIL import Image

    assert media.data is not None
    return np.asarray(Image.open(io.BytesIO(media.data)), dtype=np.float64)


def test_shares_are_the_whole_set_once() -> None:
    """The three shares together are scikit-learn's 1,797 digits, each once, with its own label and cells."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    found = [one for share in SHARES for one in digits(share)]
    assert sorted(one.number for one in found) == list(range(1797))
    for one in found[::50]:
        assert one.label == loaded.target[one.number]
        assert np.array_equal(one.cells * 16, loaded.images[one.number])


def test_picture_is_black_ink_on_white_paper() -> None:
    """A digit's picture is RGB, has the size it says, and its mean darkness is the cells' mean ink but for the enlarging."""
    for one in digits("heldout")[:30]:
        seen = pixels(one.media)
        assert seen.shape == (SIDE, SIDE, 3)
        assert abs((1 - seen.mean() / 255) - one.cells.mean()) < 0.02


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_chosen_is_bolder_and_of_one_kind(split: str) -> None:
    """In every pair both pictures are of the captioned digit, and the chosen one is darker by the margin."""
    known = {one.media.digest(): one for one in digits(split)}
    pairs = list(bolder_pairs(split, 300))
    assert len(pairs) > 100
    for pair in pairs:
        chosen, rejected = known[pair.chosen.digest()], known[pair.rejected.digest()]
        assert pair.prompt == f"a handwritten {WORDS[chosen.label]}" == f"a handwritten {WORDS[rejected.label]}"
        assert chosen.cells.mean() - rejected.cells.mean() >= MARGIN
        assert pixels(pair.chosen).mean() < pixels(pair.rejected).mean()


def test_no_picture_is_in_both_splits() -> None:
    """No picture of a held-out pair, by its bytes, is in a training pair, in the base's pictures, or in another held-out pair."""
    training = {side.digest() for pair in bolder_pairs("train", 100_000) for side in (pair.chosen, pair.rejected)}
    training |= {one.media.digest() for share in ("train", "reader") for one in digits(share)}
    held_out = [side.digest() for pair in bolder_pairs("heldout", 100_000) for side in (pair.chosen, pair.rejected)]
    assert not training & set(held_out)
    assert len(held_out) == len(set(held_out))


def test_every_digit_is_in_the_pairs_alike() -> None:
    """Of 200 training pairs 20 are of each digit, none occurs twice, and another seed draws others."""
    pairs = list(bolder_pairs("train", 200))
    assert [sum(pair.meta["digit"] == label for pair in pairs) for label in range(10)] == [20] * 10
    assert len({pair.id for pair in pairs}) == 200
    assert {pair.id for pair in pairs} == {pair.id for pair in bolder_pairs("train", 200)}
    assert {pair.id for pair in pairs} != {pair.id for pair in bolder_pairs("train", 200, seed=1)}


def test_missing_scikit_learn_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without scikit-learn the error carries the pip line of the extra."""
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    shelf.digits.cache_clear()
    with pytest.raises(MissingExtraError, match=r"pip install 'dpoframe-diffusion\[example\]'"):
        digits("train")
    monkeypatch.undo()
    shelf.digits.cache_clear()


def drawing(media: Media, **meta: object) -> Sample:
    """A picture as a model's answer."""
    return Sample("one", "a handwritten one", media, meta=meta)


def grey(value: int) -> Media:
    """A picture of one grey."""
    from PIL import Image

    return shelf.as_media(Image.new("L", (16, 16), value).convert("RGB"))


def test_ink_is_the_mean_darkness() -> None:
    """White paper has ink 0, black 1, and a quarter of black dots on white a quarter."""
    from PIL import Image

    assert Ink().score(drawing(grey(255))) == {"mean": 0.0}
    assert Ink().score(drawing(grey(0))) == {"mean": 1.0}
    dotted = Image.new("RGB", (16, 16), "white")
    dotted.paste("black", (0, 0, 8, 8))
    assert Ink().score(drawing(shelf.as_media(dotted))) == {"mean": 0.25}
    assert Ink().score(Sample("one", "x", "no picture")) is None


def test_legibility_reads_real_digits() -> None:
    """Of real digits that it was not trained on, the classifier reads at least 95 % right; and blank paper as no digit for sure."""
    assert legibility.read_right() > 0.95
    right = [Legibility().score(drawing(one.media, digit=one.label)) for one in digits("heldout")[:50]]
    assert sum(one["rate"] for one in right if one) > 45
    wrong = [Legibility().score(drawing(one.media, digit=(one.label + 1) % 10)) for one in digits("heldout")[:50]]
    assert sum(one["rate"] for one in wrong if one) < 5


def test_legibility_does_not_depend_on_ink() -> None:
    """The same digits at half the ink are read as before, but for the rounding of greys."""
    some = digits("heldout")[:100]
    pale = [shelf.as_media(shelf.drawn(one.cells / 2)) for one in some]
    same = np.mean(np.array(legibility.read(pale)) == np.array(legibility.read([one.media for one in some])))
    assert same >= 0.98


def test_legibility_leaves_other_prompts_alone() -> None:
    """Without a digit to be read, or without a picture, there is nothing to say."""
    assert Legibility().score(drawing(grey(255))) is None
    assert Legibility().score(Sample("one", "x", "no picture", meta={"digit": 1})) is None


class TestInk(EvaluatorContract):
    evaluator = Ink()
    samples = (drawing(grey(0)), drawing(grey(200)))


class TestLegibility(EvaluatorContract):
    evaluator = Legibility()
    samples = tuple(drawing(one.media, digit=one.label) for one in digits("heldout")[:4])


class TestBolderPairs(DatasetContract):
    dataset = staticmethod(bolder_pairs)
    options: ClassVar[Mapping[str, object]] = {"split": "train", "pairs": 30}
