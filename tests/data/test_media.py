"""Rows that name pictures: what they become, and what is refused; masks that go with a picture."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from dpoframe import Media
from dpoframe.harness.storage.media import Blobs


def picture(name: str, **more: Any) -> dict[str, Any]:
    """An object that names a picture."""
    return {"media": "image", "path": name, **more}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Three files beside the rows."""
    for name in ("a.png", "sub/b.png", "m.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


GOOD = {"prompt": "a cat", "chosen": picture("a.png"), "rejected": picture("sub/b.png", mask=picture("m.png")), "label": 3}


def test_rows_become_media(files: Path, rows_file: Any, load: Any) -> None:
    """The layout is told from the rows; paths start beside the file; a mask goes along; other columns are meta."""
    loaded = load(rows_file([GOOD, {**GOOD, "prompt": [{"role": "user", "content": "a dog"}]}]))
    first, second = loaded.train
    assert first.chosen == Media("image", path=files / "a.png")
    assert first.rejected == Media("image", path=files / "sub" / "b.png", mask=Media("image", path=files / "m.png"))
    assert (first.prompt, first.meta["label"]) == ("a cat", 3)
    assert second.prompt == [{"role": "user", "content": "a dog"}]
    named = load(rows_file([{**GOOD, "prompt": picture("m.png")}], "other.jsonl"), layout="media")
    assert named.train[0].prompt == Media("image", path=files / "m.png")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"chosen": picture("gone.png")}, "media-missing"),
        ({"chosen": picture("a.png", mask=picture("gone.png"))}, "media-missing"),
        ({"chosen": picture("/etc/hostname")}, "media-outside"),
        ({"chosen": picture("../a.png")}, "media-outside"),
        ({"chosen": picture("sub/../a.png")}, "media-outside"),
        ({"chosen": picture("")}, "wrong-type"),
        ({"chosen": {"media": "picture", "path": "a.png"}}, "wrong-type"),
        ({"chosen": picture("a.png", mask="m.png")}, "wrong-type"),
        ({"chosen": "a.png"}, "wrong-type"),
        ({"chosen": None}, "empty-chosen"),
        ({"prompt": ""}, "empty-prompt"),
        ({"prompt": 3}, "wrong-type"),
        ({"chosen": picture("a.png"), "rejected": picture("a.png")}, "identical"),
    ],
)  # fmt: skip
def test_faults(changes: dict[str, Any], code: str, files: Path, rows_file: Any, load: Any) -> None:
    """A row that names no file below its folder is refused by a stable code; the others are used."""
    loaded = load(rows_file([GOOD, {**GOOD, **changes}, {**GOOD, "prompt": "other"}]))
    assert [(row.row, row.code) for row in loaded.refused] == [(2, code)]
    assert len(loaded.train) == 2


def test_a_mask_counts(files: Path) -> None:
    """Two pictures with unlike masks, or with and without one, are not the same; a mask is a grey picture without a mask."""
    plain = Media("image", path=files / "a.png")
    masked = Media("image", path=files / "a.png", mask=Media("image", data=b"m.png"))
    same = Media("image", data=b"a.png", mask=Media("image", path=files / "m.png"))
    other = Media("image", path=files / "a.png", mask=Media("image", data=b"n"))
    assert masked.digest() == same.digest()
    assert len({one.digest() for one in (plain, masked, other)}) == 3
    # Without a mask it stays the digest of the bytes, so that stored answers keep their keys.
    assert plain.digest() == hashlib.blake2b(b"a.png", digest_size=16).hexdigest()
    for wrong in (Media("audio", data=b"x"), masked):
        with pytest.raises(ValueError, match="mask"):
            Media("image", data=b"x", mask=wrong)


def test_stored_pictures_keep_their_masks(files: Path, tmp_path: Path) -> None:
    """In an evaluation's folder the mask is a file of its own, named again when it is read; one that is lost is missed."""
    blobs = Blobs(tmp_path / "eval")
    masked = Media("image", path=files / "a.png", mask=Media("image", path=files / "m.png"))
    stored = blobs.stored({"picture": masked, "plain": Media("image", data=b"a.png")})
    assert stored["picture"]["path"].rpartition(".")[0] == stored["plain"]["path"]
    back = blobs.restored(stored)["picture"]
    assert (back.path.read_bytes(), back.mask.path.read_bytes(), back.digest()) == (b"a.png", b"m.png", masked.digest())
    assert not blobs.missing(stored)
    back.mask.path.unlink()
    assert blobs.missing(stored)
    odd = {**stored["plain"], "mask": "x"}
    assert blobs.restored(odd) == odd
