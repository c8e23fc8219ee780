"""Pictures in a model's card."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from dpoframe.card_samples import COUNT, add_samples

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def evaluation(folder: Path, responses: list[object]) -> None:
    """Samples as an evaluation exports them, each answering a prompt of its own."""
    (folder / "blobs").mkdir(parents=True)
    rows = []
    for number, response in enumerate(responses):
        told = response
        if isinstance(response, bytes):
            name = f"blobs/{folder.parent.parent.name.encode().hex()[:8]:0>24}{number:08x}.png"
            (folder / name).write_bytes(response)
            told = {"media": "image", "path": name}
        row = {"key": f"{number:032x}", "id": f"p{number}#0", "prompt": f"cat | <b>{number}", "response": told, "meta": {}}
        rows.append(row)
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two suites, texts and pictures, with a model."""
    for side, mark in (("base", b"0"), (".", b"1")):
        evaluation(tmp_path / side / "eval" / "texts", ["hello"])
        evaluation(tmp_path / side / "eval" / "pictures", [PIXEL + mark] * (COUNT + 2))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "README.md").write_text("# A model\n")
    return tmp_path


def test_base_and_aligned_stand_side_by_side(run: Path) -> None:
    """The first pictures of the first suite that has any are copied, in the order base, aligned; prompts are escaped."""
    add_samples(run, run / "model", ["texts", "pictures"])
    card = (run / "model" / "README.md").read_text()
    rows = [line for line in card.splitlines() if line.startswith("| cat")]
    assert len(rows) == COUNT
    assert rows[0].startswith("| cat &#124; &#60;b&#62;0 | ![](samples/")
    names = [part.partition(")")[0] for part in rows[0].split("![](")[1:]]
    assert [(run / "model" / name).read_bytes()[-1:] for name in names] == [b"0", b"1"]
    assert "The suite pictures" in card


def test_every_prompt_is_shown_once(run: Path) -> None:
    """Of several answers to one prompt the first is shown, so that the table has room for others."""
    for side in ("base", "."):
        file = run / side / "eval" / "pictures" / "samples.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps({**row, "prompt": f"cat {place // 3}"}) + "\n" for place, row in enumerate(rows)))
    add_samples(run, run / "model", ["pictures"])
    rows = [
        line.split("|")[1].strip() for line in (run / "model" / "README.md").read_text().splitlines() if line.startswith("| cat")
    ]
    assert rows == ["cat 0", "cat 1"]


def test_a_second_time_changes_nothing(run: Path) -> None:
    """A card that has samples keeps them, so that a resumed run writes the same bytes."""
    add_samples(run, run / "model", ["pictures"])
    once = (run / "model" / "README.md").read_bytes()
    add_samples(run, run / "model", ["pictures"])
    assert (run / "model" / "README.md").read_bytes() == once


def test_texts_are_no_pictures(run: Path) -> None:
    """A suite of texts leaves the card as it was, and no folder behind."""
    add_samples(run, run / "model", ["texts"])
    assert (run / "model" / "README.md").read_text() == "# A model\n"
    assert not (run / "model" / "samples").exists()
