"""Layouts of picture preferences: every row is a pair or a refused row with its place and code."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import dpoframe_diffusion
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dpoframe_diffusion.readers.folders import image_folders
from dpoframe_diffusion.readers.hpd import hpd
from dpoframe_diffusion.readers.image_reward import image_reward
from dpoframe_diffusion.readers.pick_a_pic import pick_a_pic
from dpoframe_diffusion.readers.table import image_rows
from PIL import Image

from dpoframe import ConfigError, DataError, Media, PreferencePair, RefusedRow
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
        (extreme,), _ = split(hpd(tmp_path / "test.json", pairs="best_worst"))
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


class TestFolders:
    """chosen/ and rejected/ with captions."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Two pairs and a picture without a partner."""
        files_of(
            tmp_path,
            ["chosen/a_red_cat_01.png", "chosen/dog.png", "chosen/alone.png", "rejected/a_red_cat_01.webp", "rejected/dog.png"],
        )
        (tmp_path / "chosen" / "notes.md").write_text("not a picture")
        return tmp_path

    def test_names_as_captions(self, folder) -> None:
        """Without anything else the names are the captions; the ends of the names may differ; a lone picture is refused."""
        pairs, refused = split(image_folders(folder))
        assert [pair.prompt for pair in pairs] == ["a red cat", "dog"]
        assert data(pairs[0].rejected) == (folder / "rejected" / "a_red_cat_01.webp").read_bytes()
        assert codes(refused) == [(2, "media-missing")]
        assert "rejected/alone" in refused[0].reason

    def test_text_files(self, folder) -> None:
        """Text files beside a picture are its caption; one that is missing, empty or not UTF-8 refuses its pair."""
        (folder / "rejected" / "dog.txt").write_text("\ufeffa dog\n", encoding="utf-8")
        pairs, refused = split(image_folders(folder))
        assert [pair.prompt for pair in pairs] == ["a dog"]
        assert codes(refused) == [(1, "prompt-missing"), (2, "media-missing")]
        (folder / "chosen" / "a_red_cat_01.txt").write_bytes(b"caf\xe9")
        (folder / "chosen" / "dog.txt").write_bytes(b" \n")
        _, refused = split(image_folders(folder))
        assert codes(refused) == [(1, "not-utf8"), (2, "media-missing"), (3, "empty-prompt")]

    @pytest.mark.parametrize("form", ["jsonl", "csv", "mapping", "named"])
    def test_file_of_captions(self, form, folder) -> None:
        """A file of captions, as rows or as one object, is found by its name or named."""
        rows = [{"file_name": "a_red_cat_01.png", "caption": "one"}, {"file_name": "dog", "caption": "two"}]
        if form == "csv":
            with (folder / "captions.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, ["file_name", "caption"])
                writer.writeheader()
                writer.writerows(rows)
        elif form == "mapping":
            (folder / "captions.json").write_text(json.dumps({"a_red_cat_01.png": "one", "dog": "two"}))
        else:
            (folder / ("metadata.jsonl" if form == "jsonl" else "mine.jsonl")).write_text(
                "".join(json.dumps(row) + "\n" for row in rows)
            )
        pairs, _ = split(image_folders(folder, captions="mine.jsonl" if form == "named" else "auto"))
        assert [pair.prompt for pair in pairs] == ["one", "two"]

    def test_masks(self, folder) -> None:
        """A mask of the same name goes with both pictures; one of another shape refuses the pair."""
        (folder / "masks").mkdir()
        Image.new("L", (12, 8), 200).save(folder / "masks" / "dog.png")
        pairs, _ = split(image_folders(folder))
        assert [getattr(pair.chosen, "mask", None) is not None for pair in pairs] == [False, True]
        assert isinstance(pairs[1].rejected, Media)
        assert pairs[1].rejected.mask == Media("image", path=folder / "masks" / "dog.png")
        Image.new("L", (8, 12), 200).save(folder / "masks" / "dog.png")
        _, refused = split(image_folders(folder))
        assert codes(refused) == [(2, "media-missing"), (3, "wrong-type")]

    def test_numbers_are_no_captions(self, tmp_path) -> None:
        """A name of digits alone is no caption."""
        files_of(tmp_path, ["chosen/0001.png", "rejected/0001.png"])
        _, refused = split(image_folders(tmp_path))
        assert codes(refused) == [(1, "prompt-missing")]

    def test_wrong_folders(self, tmp_path) -> None:
        """A missing folder, an empty one and two pictures of one name are told at once."""
        with pytest.raises(DataError, match="not there or empty"):
            image_folders(tmp_path / "no")
        files_of(tmp_path, ["good/a.png", "rejected/a.png"])
        with pytest.raises(DataError, match=r"chosen is not a folder.*holds: good, rejected"):
            image_folders(tmp_path)
        (tmp_path / "chosen").mkdir()
        with pytest.raises(DataError, match="holds no picture"):
            image_folders(tmp_path)
        files_of(tmp_path, ["chosen/a.png", "chosen/a.jpg"])
        with pytest.raises(DataError, match="go by one name"):
            image_folders(tmp_path)


class TestImageRows:
    """Rows with named columns."""

    @pytest.fixture
    def write(self, tmp_path: Path) -> Callable[..., Path]:
        """Writes rows of JSON Lines beside the pictures a.png to e.png."""
        files_of(tmp_path, [f"{name}.png" for name in "abcde"])

        def lines(*rows: dict[str, Any]) -> Path:
            path = tmp_path / "rows.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            return path

        return lines

    def test_paths(self, write, tmp_path) -> None:
        """Paths start beside the file; `weight` and short columns go along."""
        row = {
            "prompt": "p",
            "chosen": "a.png",
            "rejected": "./b.png",
            "weight": 2,
            "author": "me",
            "score_chosen": 3,
            "score_rejected": 1,
        }
        (pair,), refused = split(image_rows(write(row)))
        assert not refused
        assert pair.chosen == Media("image", path=tmp_path / "a.png")
        assert pair.rejected == Media("image", path=tmp_path / "b.png")
        assert pair.weight == 2
        assert pair.meta == {
            "author": "me",
            "score_chosen": 3,
            "score_rejected": 1,
            "origin": str(tmp_path / "rows.jsonl"),
            "row": 1,
        }

    @pytest.mark.parametrize(
        ("path", "code"),
        [
            ("../../etc/passwd", "media-outside"),
            ("/etc/passwd", "media-outside"),
            ("x/../../a.png", "media-outside"),
            ("https://example.org/a.png", "media-outside"),
            ("s3://bucket/a.png", "media-outside"),
            ("file:///etc/passwd", "media-outside"),
            ("none.png", "media-missing"),
            (".", "media-missing"),
            ("", "media-missing"),
            (None, "media-missing"),
            (3, "wrong-type"),
            (["a.png"], "wrong-type"),
            ("a\0.png", "control-character"),
            ("data:image/png;base64,????", "media-damaged"),
            ("rows.jsonl", "media-damaged"),
        ],
    )
    def test_paths_that_are_refused(self, path, code, write) -> None:
        """Paths that leave the folder, addresses, and what is no picture are refused; the next row is read."""
        good = {"prompt": "p", "chosen": "a.png", "rejected": "b.png"}
        pairs, refused = split(image_rows(write({**good, "rejected": path}, good)))
        assert len(pairs) == 1
        assert codes(refused) == [(1, code)]
        assert "rejected" in refused[0].reason

    def test_root(self, write, tmp_path) -> None:
        """With `root` paths start there, and an absolute path inside it is taken."""
        place = tmp_path / "elsewhere"
        place.mkdir()
        moved = place / "rows.jsonl"
        write({"prompt": "p", "chosen": "a.png", "rejected": str(tmp_path / "b.png")}).rename(moved)
        pairs, refused = split(image_rows(moved, root=tmp_path))
        assert len(pairs) == 1
        assert not refused
        assert codes(split(image_rows(moved))[1]) == [(1, "media-missing")]

    def test_inline_pictures(self, write) -> None:
        """A `data:` address holds its picture."""
        address = "data:image/png;base64," + base64.b64encode(jpeg(9)).decode()
        (pair,), _ = split(image_rows(write({"prompt": "p", "chosen": address, "rejected": "b.png"})))
        assert data(pair.chosen) == jpeg(9)

    def test_columns(self, write, tmp_path) -> None:
        """Columns are mapped by name; one that is not there, or that this data set does not know, is told."""
        path = write({"text": "p", "good": "a.png", "bad": "b.png"})
        columns = {"prompt": "text", "chosen": "good", "rejected": "bad"}
        assert len(split(image_rows(path, columns))[0]) == 1
        with pytest.raises(DataError, match=r"no column prompt.*Found: text, good, bad"):
            list(image_rows(path))
        with pytest.raises(DataError, match="no column cover"):
            list(image_rows(path, {**columns, "mask": "cover"}))
        with pytest.raises(ConfigError, match=r"data\.columns\.propmt"):
            image_rows(path, {"propmt": "text"})

    def test_masks(self, write, tmp_path) -> None:
        """`mask` covers both pictures, a mask of one side takes its place; a damaged one refuses the row."""
        for name in ("m", "n"):
            Image.new("L", (12, 8), 100).save(tmp_path / f"{name}.png")
        good = {"prompt": "p", "chosen": "a.png", "rejected": "b.png"}
        rows = [{**good, "mask": "m.png"}, {**good, "mask": "m.png", "rejected_mask": "n.png"}, {**good, "mask": "none.png"}, good]
        pairs, refused = split(image_rows(write(*rows)))
        found = [[getattr(media, "mask", None) for media in (pair.chosen, pair.rejected)] for pair in pairs]
        m, n = (Media("image", path=tmp_path / f"{name}.png") for name in ("m", "n"))
        assert found == [[m, m], [m, n], [None, None]]
        assert codes(refused) == [(3, "media-missing")]
        assert "mask of chosen" in refused[0].reason

    @pytest.mark.parametrize("weight", [-1, "x", True, float("inf")])
    def test_wrong_weights(self, weight, tmp_path) -> None:
        """A weight that is no number of at least 0 is refused."""
        rows = [{"prompt": "p", "chosen": jpeg(0), "rejected": jpeg(1), "weight": weight}]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
        assert codes(split(image_rows(tmp_path / "a.parquet"))[1]) == [(1, "wrong-weight")]

    def test_broken_lines(self, write) -> None:
        """Lines that are no JSON are refused in their places, as everywhere."""
        path = write({"prompt": "p", "chosen": "a.png", "rejected": "b.png"})
        path.write_bytes(path.read_bytes() + b"{\n" + b'{"prompt": "\xff"}\n')
        assert codes(split(image_rows(path))[1]) == [(2, "invalid-json"), (3, "not-utf8")]

    def test_smallest(self, write) -> None:
        """`smallest` refuses pictures with fewer pixels on a side."""
        path = write({"prompt": "p", "chosen": "a.png", "rejected": "b.png"})
        assert codes(split(image_rows(path, smallest=9))[1]) == [(1, "media-too-small")]
        assert not split(image_rows(path, smallest=8))[1]


READERS = {
    "pick_a_pic": pick_a_pic,
    "hpd": hpd,
    "image_reward": image_reward,
    "image_folders": image_folders,
    "image_rows": image_rows,
}


def test_all_readers_are_registered() -> None:
    """Each reader is what the plugin's hook names."""
    import importlib

    named = dpoframe_diffusion.dpoframe_datasets()
    for name, reader in READERS.items():
        module, _, attribute = named[name].partition(":")
        assert getattr(importlib.import_module(module), attribute) is reader


@pytest.mark.parametrize("name", READERS)
def test_options_are_checked_by_their_annotations(name, tmp_path) -> None:
    """The core checks a recipe's keys with pydantic: every reader's annotations can be read by it, and refuse a wrong type."""
    from pydantic import ValidationError, validate_call

    checked = validate_call(READERS[name])
    with pytest.raises(ValidationError, match="full_check"):
        checked(path=str(tmp_path), full_check="perhaps")


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
