"""A person's own pictures: two folders, or rows with named columns; and what all readers have in common."""

from __future__ import annotations

import base64
import csv
import importlib
import io
import json
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


def jpeg(number: int, size: tuple[int, int] = (12, 8), form: str = "PNG") -> bytes:
    """A picture of its own for each number."""
    values = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, form)
    return buffer.getvalue()


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


def files_of(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Pictures of their own under these names."""
    made = {}
    for number, name in enumerate(names):
        made[name] = jpeg(number)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(made[name])
    return made


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
        """A mask of the same name goes with both pictures; one of another shape, or black all over, refuses the pair."""
        (folder / "masks").mkdir()
        Image.new("L", (12, 8), 200).save(folder / "masks" / "dog.png")
        pairs, _ = split(image_folders(folder))
        assert [getattr(pair.chosen, "mask", None) is not None for pair in pairs] == [False, True]
        assert isinstance(pairs[1].rejected, Media)
        assert pairs[1].rejected.mask == Media("image", path=folder / "masks" / "dog.png")
        for size, grey, code in (((8, 12), 200, "wrong-type"), ((12, 8), 0, "unsuited")):
            Image.new("L", size, grey).save(folder / "masks" / "dog.png")
            _, refused = split(image_folders(folder))
            assert codes(refused) == [(2, "media-missing"), (3, code)]

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

    def test_links_that_leave_the_folder(self, write, tmp_path, monkeypatch) -> None:
        """A picture that is a link to one elsewhere is refused, unless the environment names where it leads."""
        place = tmp_path / "rows"
        place.mkdir()
        moved = place / "rows.jsonl"
        write({"prompt": "p", "chosen": "a.png", "rejected": "b.png"}).rename(moved)
        (tmp_path / "a.png").rename(place / "a.png")
        (place / "b.png").symlink_to(tmp_path / "b.png")
        pairs, refused = split(image_rows(moved))
        assert (pairs, codes(refused)) == ([], [(1, "media-outside")])
        assert "a link that leaves" in refused[0].reason
        monkeypatch.setenv("DPOFRAME_MEDIA_ROOTS", str(tmp_path))
        assert len(split(image_rows(moved))[0]) == 1

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

    def test_files_as_data_build_writes_them(self, write, tmp_path) -> None:
        """`{"media", "path"}` names a file, with its mask where it has one."""
        Image.new("L", (12, 8), 9).save(tmp_path / "m.png")
        chosen = {"media": "image", "path": "a.png", "mask": {"media": "image", "path": "m.png"}}
        (pair,), _ = split(image_rows(write({"prompt": "p", "chosen": chosen, "rejected": {"media": "image", "path": "b.png"}})))
        assert pair.chosen == Media("image", path=tmp_path / "a.png", mask=Media("image", path=tmp_path / "m.png"))
        assert pair.rejected == Media("image", path=tmp_path / "b.png")

    def test_columns(self, write, tmp_path) -> None:
        """Columns are mapped by name; one that is not there, or that this data set does not know, is told."""
        path = write({"text": "p", "good": "a.png", "bad": "b.png", "chosen": "left over"})
        columns = {"prompt": "text", "chosen": "good", "rejected": "bad"}
        (pair,), _ = split(image_rows(path, columns))
        assert pair.meta["chosen"] == "left over"
        with pytest.raises(DataError, match=r"no column prompt.*Found: text, good, bad, chosen"):
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
