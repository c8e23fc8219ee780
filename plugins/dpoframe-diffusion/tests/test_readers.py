"""Published layouts of picture preferences: every row is a pair or a refused row with its place and code."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dpoframe_diffusion.readers.hpd import hpd
from dpoframe_diffusion.readers.image_reward import image_reward
from dpoframe_diffusion.readers.pick_a_pic import pick_a_pic
from PIL import Image

from dpoframe import DataError, Media, PreferencePair, RefusedRow
from dpoframe.testing import DatasetContract


def jpeg(number: int, size: tuple[int, int] = (12, 8), form: str = "PNG") -> bytes:
    """A picture of its own for each number."""
    values = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, form)
    return buffer.getvalue()


BOMB = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0" + (0x0FB0E215).to_bytes(4, "big") + b"\0\0\x10\0IDAT"
"""A PNG header that claims 60,000 x 60,000 pixels."""


def split(found: Iterable[PreferencePair | RefusedRow]) -> tuple[list[PreferencePair], list[RefusedRow]]:
    """Pairs and refused rows apart."""
    rows = list(found)
    return [row for row in rows if isinstance(row, PreferencePair)], [row for row in rows if isinstance(row, RefusedRow)]


def codes(refused: list[RefusedRow]) -> list[tuple[int, str]]:
    """Row and code of each refusal."""
    return [(row.row, row.code) for row in refused]


def data(content: Any) -> bytes:
    """The bytes of a picture."""
    assert isinstance(content, Media)
    return content.data if content.data is not None else Path(str(content.path)).read_bytes()


def pick_row(number: int, label: float = 1.0, **changes: Any) -> dict[str, Any]:
    """A row as Pick-a-Pic v2 has it."""
    row = {"are_different": True, "best_image_uid": "u", "caption": f"caption {number}", "has_label": True,
           "image_0_uid": "a", "image_0_url": "https://x/a.png", "image_1_uid": "b", "image_1_url": "https://x/b.png",
           "jpg_0": jpeg(2 * number, form="JPEG"), "jpg_1": jpeg(2 * number + 1, form="JPEG"),
           "label_0": label, "label_1": 1 - label,
           "model_0": "sdxl", "model_1": "sd2", "ranking_id": number, "user_id": 7, "num_example_per_prompt": 1}  # fmt: skip
    return {**row, **changes}


@pytest.fixture
def parquet(tmp_path: Path) -> Callable[[list[dict[str, Any]]], Path]:
    """Writes rows to a Parquet file in a folder of its own, and gives the folder."""

    def write(rows: list[dict[str, Any]]) -> Path:
        folder = tmp_path / "set"
        folder.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / "train-00000-of-00001.parquet")
        return folder

    return write


class TestPickAPic:
    """Bytes and labels."""

    def test_labels(self, parquet) -> None:
        """label_0 names the winner; ties and rows without a label are refused, in their places."""
        rows = [pick_row(0, 1.0), pick_row(1, 0.0), pick_row(2, 0.5), pick_row(3, has_label=False), pick_row(4, label_1=1.0)]
        pairs, refused = split(pick_a_pic(parquet(rows), "train"))
        assert [(data(pair.chosen), data(pair.rejected)) for pair in pairs] == [
            (rows[0]["jpg_0"], rows[0]["jpg_1"]),
            (rows[1]["jpg_1"], rows[1]["jpg_0"]),
        ]
        assert [pair.prompt for pair in pairs] == ["caption 0", "caption 1"]
        assert codes(refused) == [(3, "tie"), (4, "tie"), (5, "wrong-type")]
        assert pairs[1].meta["chosen_source"] == "sd2"
        assert (pairs[1].meta["row"], pairs[1].meta["ranking_id"]) == (2, 1)
        assert pairs[1].meta["origin"].endswith("train-00000-of-00001.parquet")

    def test_bad_pictures(self, parquet) -> None:
        """A truncated, an empty, a missing, a one-pixel and a huge picture, and the same one twice, each have their code."""
        whole = jpeg(99, (64, 64), "JPEG")
        bad = [whole[: len(whole) // 2], b"", None, jpeg(1, (1, 1)), BOMB, jpeg(1, form="JPEG")]
        rows = [pick_row(0, jpg_0=picture) for picture in bad]
        _, refused = split(pick_a_pic(parquet(rows)))
        found = ["media-damaged", "media-damaged", "media-missing", "media-too-small", "media-too-large", "identical"]
        assert codes(refused) == list(enumerate(found, start=1))
        assert "jpg_0" in refused[0].reason

    def test_truncated_passes_where_the_check_is_off(self, parquet) -> None:
        """Without the full check the header alone is looked at: half a JPEG passes, a bomb does not."""
        whole = jpeg(99, (64, 64), "JPEG")
        pairs, refused = split(
            pick_a_pic(parquet([pick_row(0, jpg_0=whole[: len(whole) // 2]), pick_row(1, jpg_0=BOMB)]), full_check=False)
        )
        assert len(pairs) == 1
        assert codes(refused) == [(2, "media-too-large")]

    def test_captions(self, parquet) -> None:
        """A row without a caption is refused."""
        rows = [pick_row(0), pick_row(1, caption=None), pick_row(2, caption=" ")]
        pairs, refused = split(pick_a_pic(parquet(rows)))
        assert len(pairs) == 1
        assert codes(refused) == [(2, "prompt-missing"), (3, "empty-prompt")]

    def test_caption_that_is_not_utf8(self, tmp_path) -> None:
        """A caption that is not UTF-8 is refused by itself."""
        row = pick_row(0)
        table = pa.Table.from_pylist([row, pick_row(1)])
        index = table.column_names.index("caption")
        broken = pa.Array.from_buffers(pa.string(), 2, pa.array([b"caf\xe9", b"tea"]).buffers())
        pq.write_table(table.set_column(index, "caption", broken), tmp_path / "a.parquet")
        pairs, refused = split(pick_a_pic(tmp_path / "a.parquet"))
        assert codes(refused) == [(1, "not-utf8")]
        assert [pair.prompt for pair in pairs] == ["tea"]

    def test_unpack(self, parquet, tmp_path) -> None:
        """With `unpack` pictures lie on disk once each, named by digest and kind, and the pairs name the files."""
        rows = [pick_row(0), pick_row(0, jpg_1=jpeg(77))]
        place = tmp_path / "pictures"
        for _ in range(2):
            pairs, _ = split(pick_a_pic(parquet(rows), unpack=place))
            assert [data(pair.chosen) for pair in pairs] == [row["jpg_0"] for row in rows]
        assert Counter(path.suffix for path in place.iterdir()) == {".jpeg": 2, ".png": 1}
        assert isinstance(pairs[0].chosen, Media)
        assert pairs[0].chosen.path is not None
        assert pairs[0].chosen.digest() == Media("image", data=rows[0]["jpg_0"]).digest()

    def test_copy_without_pictures(self, parquet) -> None:
        """The copy that has addresses alone is told from the whole one, with the columns found."""
        rows = [{key: value for key, value in pick_row(0).items() if not key.startswith("jpg")}]
        with pytest.raises(DataError, match=r"no column jpg_0.*Found: .*image_0_url"):
            list(pick_a_pic(parquet(rows)))

    def test_from_hugging_face(self, tmp_path, monkeypatch) -> None:
        """A saved data set of the library `datasets` is read like Parquet, also where its pictures are a column of images."""
        datasets = pytest.importorskip("datasets")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        made = datasets.Dataset.from_list([pick_row(0), pick_row(1, 0.0)])
        made.save_to_disk(tmp_path / "bytes")
        made.cast_column("jpg_0", datasets.Image()).cast_column("jpg_1", datasets.Image()).save_to_disk(tmp_path / "images")
        both = [split(pick_a_pic(tmp_path / name))[0] for name in ("bytes", "images")]
        assert [data(pair.chosen) for pair in both[0]] == [pick_row(0)["jpg_0"], pick_row(1)["jpg_1"]]
        assert [pair.id for pair in both[0]] == [pair.id for pair in both[1]]


def files_of(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Pictures of their own under these names."""
    made = {}
    for number, name in enumerate(names):
        made[name] = jpeg(number)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(made[name])
    return made


class TestHpd:
    """Choices and rankings, pictures by name."""

    def test_choices(self, tmp_path) -> None:
        """train.json: the picture with 1 is preferred; names are looked for in the folder train/."""
        files = files_of(tmp_path / "train", ["a.jpg", "b.jpg", "c.jpg"])
        rows = [
            {"human_preference": [0, 1], "prompt": "p", "file_path": ["a.jpg", "b.jpg"], "user_hash": "u"},
            {"human_preference": [1, 0], "prompt": "q", "image_path": ["a.jpg", "c.jpg"]},
            {"human_preference": [1, 1], "prompt": "q", "file_path": ["a.jpg", "c.jpg"]},
            {"human_preference": [2, 0], "prompt": "q", "file_path": ["a.jpg", "c.jpg"]},
            {"human_preference": [1, 0], "prompt": "q", "file_path": ["a.jpg", "gone.jpg"]},
            {"human_preference": [1, 0, 0], "prompt": "q", "file_path": ["a.jpg", "c.jpg"]},
        ]
        (tmp_path / "train.json").write_text(json.dumps(rows))
        pairs, refused = split(hpd(tmp_path, split="train"))
        assert [(data(pair.chosen), data(pair.rejected)) for pair in pairs] == [
            (files["b.jpg"], files["a.jpg"]),
            (files["a.jpg"], files["c.jpg"]),
        ]
        assert codes(refused) == [(3, "tie"), (4, "wrong-type"), (5, "media-missing"), (6, "wrong-type")]
        assert pairs[0].meta["user"] == "u"

    def test_rankings(self, tmp_path) -> None:
        """test.json: every pair of unequal rank, the lower rank preferred; or the best against the worst."""
        names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
        files = files_of(tmp_path, names)
        (tmp_path / "test.json").write_text(
            json.dumps([{"prompt": "p", "image_path": names, "rank": [2, 0, 3, 2], "raw_annotation": []}])
        )
        pairs, refused = split(hpd(tmp_path / "test.json"))
        found = {(data(pair.chosen), data(pair.rejected)) for pair in pairs}
        assert found == {(files[f"{x}.jpg"], files[f"{y}.jpg"]) for x, y in ("ba", "bd", "bc", "ac", "dc")}
        assert not refused
        (extreme,), _ = split(hpd(tmp_path / "test.json", pairs="best-worst"))
        assert (data(extreme.chosen), data(extreme.rejected)) == (files["b.jpg"], files["c.jpg"])

    def test_a_broken_picture_spares_the_others(self, tmp_path) -> None:
        """A damaged picture of a ranking is refused by itself; the others still make their pairs."""
        files_of(tmp_path, ["a.jpg", "b.jpg", "c.jpg"])
        (tmp_path / "b.jpg").write_bytes(b"broken")
        (tmp_path / "test.json").write_text(
            json.dumps([{"prompt": "p", "image_path": ["a.jpg", "b.jpg", "c.jpg"], "rank": [0, 1, 2]}])
        )
        pairs, refused = split(hpd(tmp_path / "test.json"))
        assert len(pairs) == 1
        assert codes(refused) == [(1, "media-damaged")]
        assert "picture 2 of 3" in refused[0].reason

    def test_from_hugging_face(self, tmp_path, monkeypatch) -> None:
        """On the hub a row has a list of images and both columns, one of them empty."""
        datasets = pytest.importorskip("datasets")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        pictures = [{"bytes": jpeg(number), "path": None} for number in range(2)]
        rows = [
            {"prompt": "p", "image": pictures, "human_preference": [0, 1], "rank": []},
            {"prompt": "q", "image": pictures, "human_preference": [], "rank": [1, 2]},
        ]
        numbers = datasets.List(datasets.Value("int8"))
        images = datasets.List(datasets.Image())
        features = {"prompt": datasets.Value("string"), "image": images, "human_preference": numbers, "rank": numbers}
        datasets.Dataset.from_list(rows, datasets.Features(features)).save_to_disk(tmp_path / "set")
        pairs, refused = split(hpd(tmp_path / "set"))
        assert [data(pair.chosen) for pair in pairs] == [jpeg(1), jpeg(0)]
        assert not refused

    def test_other_columns(self, tmp_path) -> None:
        """Another layout is told with what was needed and what was found."""
        (tmp_path / "a.json").write_text(json.dumps([{"prompt": "p", "images": []}]))
        with pytest.raises(DataError, match=r"HPD v2.*Needed: prompt; image or file_path.*Found: prompt, images"):
            list(hpd(tmp_path / "a.json"))


class TestImageReward:
    """A row a ranking, a row a picture, a row a pair."""

    def test_lists(self, tmp_path) -> None:
        """`generations` and `ranking`, the best has the lowest rank."""
        files = files_of(tmp_path, ["x/a.webp", "x/b.webp", "x/c.webp"])
        rows = [{"id": "1-2", "prompt": "p", "generations": list(files), "ranking": [3, 1, 3]}]
        (tmp_path / "test.json").write_text(json.dumps(rows))
        pairs, _ = split(image_reward(tmp_path / "test.json"))
        assert [(data(pair.chosen), data(pair.rejected)) for pair in pairs] == [
            (files["x/b.webp"], files["x/a.webp"]),
            (files["x/b.webp"], files["x/c.webp"]),
        ]
        assert pairs[0].meta["prompt_id"] == "1-2"

    def test_a_row_a_picture(self, tmp_path) -> None:
        """Rows of ImageRewardDB are put together by prompt_id, wherever they stand, whole or not."""
        files = files_of(tmp_path, [f"images/{name}.webp" for name in "abcdef"])
        names = list(files)

        def row(place: int, prompt: str, rank: int, amount: int) -> dict[str, Any]:
            return {"image_path": names[place], "prompt_id": prompt, "prompt": f"text {prompt}", "rank": rank,
                    "image_amount_in_total": amount, "overall_rating": 5}  # fmt: skip

        rows = [row(0, "x", 2, 2), row(1, "y", 1, 3), row(2, "x", 1, 2), row(3, "y", 2, 3), row(4, "z", 1, 4), row(5, "z", 2, 4)]
        (tmp_path / "train.json").write_text(json.dumps(rows))
        pairs, refused = split(image_reward(tmp_path / "train.json"))
        assert [(pair.prompt, data(pair.chosen), data(pair.rejected)) for pair in pairs] == [
            ("text x", files[names[2]], files[names[0]]),
            ("text y", files[names[1]], files[names[3]]),
            ("text z", files[names[4]], files[names[5]]),
        ]
        assert [pair.meta["row"] for pair in pairs] == [1, 2, 5]
        assert not refused

    def test_a_row_a_pair(self, tmp_path) -> None:
        """`img_better` and `img_worse`, as the hub's paired subsets have them."""
        rows = [
            {
                "prompt_id": "1",
                "prompt": "p",
                "img_better": {"bytes": jpeg(0), "path": None},
                "img_worse": {"bytes": jpeg(1), "path": None},
            }
        ]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
        (pair,), _ = split(image_reward(tmp_path / "a.parquet"))
        assert (data(pair.chosen), data(pair.rejected)) == (jpeg(0), jpeg(1))

    def test_real_rankings(self, real) -> None:
        """The published test set: every picture is named and missing here, so each is refused by its name and none makes a pair."""
        count = sum(len(row["generations"]) for row in json.loads((real / "imagereward_test.json").read_text()))
        pairs, refused = split(image_reward(real / "imagereward_test.json"))
        assert not pairs
        assert Counter(row.code for row in refused) == {"media-missing": count}

    def test_real_rankings_with_pictures(self, real, tmp_path) -> None:
        """Its rankings with pictures in place: as many pairs as pairs of unequal rank, counted without the reader."""
        rows = json.loads((real / "imagereward_test.json").read_text())[:20]
        files_of(tmp_path, [name for row in rows for name in row["generations"]])
        (tmp_path / "rows.json").write_text(json.dumps(rows))
        pairs, refused = split(image_reward(tmp_path / "rows.json"))
        expected = sum(one < other for row in rows for one in row["ranking"] for other in row["ranking"])
        assert len(pairs) == expected
        assert all(pair.meta["rank_chosen"] < pair.meta["rank_rejected"] for pair in pairs)
        assert {row.code for row in refused} <= {"tie"}

    def test_data_for_refl(self, real) -> None:
        """The published data for ReFL holds no preference, and is told from those that do."""
        with pytest.raises(DataError, match=r"no column prompt.*Found: text, image"):
            list(image_reward(real / "imagereward_refl_data.json"))


class TestContract(DatasetContract):
    """The contract of a data set, on Pick-a-Pic's layout."""

    @pytest.fixture(autouse=True)
    def _set(self, parquet, monkeypatch) -> None:
        rows = [pick_row(number, number % 2) for number in range(4)] + [pick_row(9, 0.5)]
        monkeypatch.setattr(type(self), "dataset", staticmethod(pick_a_pic), raising=False)
        monkeypatch.setattr(type(self), "options", {"path": str(parquet(rows))})


@pytest.fixture
def real() -> Path:
    """The folder of real preference data on pictures beside the repository."""
    folder = Path(__file__).parents[3] / ".." / "shared" / "data" / "image_pref"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder
