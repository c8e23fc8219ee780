"""`dpoframe.read_rows`: rows of every kind of source as they are, for authors of data sets."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dpoframe
from dpoframe import DataError, PreferencePair, RawRow, RefusedRow, read_rows

ROWS = [{"question": f"q{i}", "a": "x", "b": "y", "a_votes": i, "b_votes": 1} for i in range(3)]


def folder_of(path: Path) -> Path:
    """The same rows in every format."""
    path.mkdir()
    (path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (path / "rows.json").write_text(json.dumps(ROWS))
    (path / "rows.csv").write_text("question,a,b,a_votes,b_votes\n" + "".join(f"q{i},x,y,{i},1\n" for i in range(3)))
    pq.write_table(pa.Table.from_pylist(ROWS), path / "rows.parquet")
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet"])
def test_rows_as_they_are(name, tmp_path):
    """Every format gives the same columns and values (CSV all as text), with the file and the row's number."""
    path = folder_of(tmp_path / "set") / name
    rows = list(read_rows(path))
    assert all(isinstance(row, RawRow) for row in rows)
    text = [{key: str(value) for key, value in row.items()} for row in ROWS]
    assert [row.values for row in rows] == (text if name == "rows.csv" else ROWS)
    assert [(row.source, row.row) for row in rows] == [(str(path), number) for number in (1, 2, 3)]


def test_unreadable_rows_are_refused_in_their_place(tmp_path):
    """A broken line comes as a refused row between the others."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    first, second, third = read_rows(path)
    assert isinstance(second, RefusedRow)
    assert (second.row, second.code) == (2, "invalid-json")
    assert (first.values, third.values) == ({"a": 1}, {"a": 3})
    assert third.refuse("tie", "It is one.") == RefusedRow(str(path), 3, "tie", "It is one.")


def test_lists_folders_and_splits(tmp_path):
    """Several files are read one after another; a split keeps those of its name."""
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"split": name}) + "\n")
    paths = [tmp_path / "test.jsonl", str(tmp_path / "train.jsonl")]
    assert [row.values["split"] for row in read_rows(paths)] == ["test", "train"]
    assert [row.values["split"] for row in read_rows(tmp_path, "train")] == ["train"]


def test_what_cannot_be_read_is_told(tmp_path):
    """A missing path, a kind that is not known, and a hub's option for a file are errors at once."""
    with pytest.raises(DataError, match="neither a file"):
        read_rows(tmp_path / "none.jsonl")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="no known kind"):
        read_rows(tmp_path / "a.txt")
    (tmp_path / "a.jsonl").write_text("{}")
    with pytest.raises(DataError, match="revision was given"):
        read_rows(tmp_path / "a.jsonl", revision="main")


@pytest.mark.parametrize("nested", [False, True])
def test_pictures_of_hugging_face_stay_encoded(nested, tmp_path, monkeypatch):
    """A column of pictures, or of lists of them, comes as the bytes that were put in, with the other columns as they are."""
    datasets = pytest.importorskip("datasets")
    image = pytest.importorskip("PIL.Image")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    buffer = io.BytesIO()
    image.new("RGB", (2, 2), (1, 2, 3)).save(buffer, "PNG")
    one = {"bytes": buffer.getvalue(), "path": None}
    kind = datasets.List(datasets.Image()) if nested else datasets.Image()
    features = datasets.Features({"picture": kind, "caption": datasets.Value("string")})
    given = {"picture": [[one, one]] * 3 if nested else [one] * 3, "caption": ["a", "b", "c"]}
    datasets.Dataset.from_dict(given, features).save_to_disk(tmp_path / "set")
    rows = list(read_rows(tmp_path / "set"))
    assert [row.values["caption"] for row in rows] == ["a", "b", "c"]
    assert [row.row for row in rows] == [1, 2, 3]
    assert rows[0].values["picture"] == ([one, one] if nested else one)


def test_the_page_s_example(tmp_path):
    """The data set that docs/plugins.md shows gives pairs and refuses ties, with their places."""
    page = (Path(dpoframe.__file__).parents[1] / "docs" / "plugins.md").read_text(encoding="utf-8")
    code = re.search(r"^```python part=votes\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert code is not None
    module = ModuleType("example_votes")
    sys.modules[module.__name__] = module
    exec(compile(code[1], "example_votes.py", "exec"), module.__dict__)
    found = list(module.votes(str(folder_of(tmp_path / "set") / "rows.jsonl")))
    del sys.modules[module.__name__]
    assert [(row.chosen, row.meta["row"]) if isinstance(row, PreferencePair) else (row.code, row.row) for row in found] == [
        ("y", 1),
        ("tie", 2),
        ("x", 3),
    ]
