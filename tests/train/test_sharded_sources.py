"""Sets in several files, read window by window: broken off anywhere a run ends as an unbroken one, with workers or without."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from dpoframe import DataError

Section = dict[str, Any]
SIZES = (25, 1, 19, 15)
"""Rows of the files: windows of 16 pairs end inside of files, and one spans three."""
STEPS = ("trainer.max_steps=12", "trainer.save_every=1", "trainer.keep_checkpoints=20")
SOURCES = ["jsonl folder", "jsonl glob", "jsonl list", "parquet folder", "parquet glob", "streamed jsonl", "streamed parquet"]


def written(folder: Path, ending: str) -> list[Path]:
    """60 rows, every tenth of them with equal responses, in four files."""
    rows = [{"prompt": f"say {n}", "chosen": "a" * (n % 7 + 1), "rejected": "b" * (n % 5 + 1)} for n in range(sum(SIZES))]
    for row in rows[::10]:
        row["rejected"] = row["chosen"]
    folder.mkdir()
    files = []
    for number, size in enumerate(SIZES):
        files.append(folder / f"train-{number:05d}-of-00004.{ending}")
        part, rows = rows[:size], rows[size:]
        if ending == "parquet":
            pq.write_table(pa.Table.from_pylist(part), files[-1], row_group_size=10)
        else:
            files[-1].write_text("".join(json.dumps(row) + "\n" for row in part))
    return files


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Section]:
    """`source("parquet glob")` writes the files and gives the data section that reads them."""

    def make(kind: str) -> Section:
        how, ending = sorted(kind.split(), key=("folder", "glob", "list", "streamed", "jsonl", "parquet").index)
        folder = tmp_path / "set"
        files = written(folder, ending)
        paths = {"folder": str(folder), "glob": f"{folder}/train-*.{ending}", "list": [str(file) for file in files]}
        if how == "streamed":
            pytest.importorskip("datasets")
            monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
            return {"name": "huggingface", "path": str(folder), "streaming": True, "window": 16}
        return {"name": ending, "path": paths[how], "window": 16}

    return make


def cut(folder: Path, step: int) -> None:
    """Takes the run back to a checkpoint, as if it had been killed after it."""
    shutil.rmtree(folder / "model")
    for file in (folder / "checkpoints").glob("step-*"):
        if int(file.stem.removeprefix("step-")) > step:
            file.unlink()


@pytest.mark.parametrize("kind", SOURCES)
def test_a_run_goes_on_exactly(kind: str, source: Any, run: Any, look: Any) -> None:
    """From the third window, which spans three files' ends in two epochs: equal rows and weights, also with two workers."""
    section = source(kind)
    whole = run("whole", *STEPS, data=section)
    rows, weights = look.rows(whole), look.weights(whole)
    for workers in (0, 2):
        cut(whole.folder, 5)
        run("whole", *STEPS, f"trainer.num_workers={workers}", data=section, resume=True)
        assert look.rows(whole) == rows
        assert all(torch.equal(value, weights[name]) for name, value in look.weights(whole).items())
    marks = [json.loads(line) for line in (whole.folder / "data" / "windows.jsonl").read_text().splitlines()]
    assert [(mark["first"], mark["pairs"]) for mark in marks] == [(0, 16), (18, 16), (36, 16), (54, 6)]


@pytest.mark.parametrize("kind", SOURCES[1:])
def test_every_way_to_name_the_files_reads_the_same(kind: str, source: Any, run: Any, look: Any, tmp_path: Path) -> None:
    """The losses are those of one file with all rows, read whole window by window."""
    section = source(kind)
    found = look.rows(run("several", *STEPS, data=section))
    alone = tmp_path / "alone.jsonl"
    alone.write_text("".join(file.read_text() for file in written(tmp_path / "again", "jsonl")))
    assert found == look.rows(run("one", *STEPS, data={"name": "jsonl", "path": str(alone), "window": 16}))


@pytest.mark.parametrize("kind", ["parquet folder", "jsonl glob", "streamed jsonl"])
def test_a_file_that_went_is_told(kind: str, source: Any, run: Any, tmp_path: Path) -> None:
    """Where a file is gone whose rows were read, the run stops where it reads on, and goes on once it is back."""
    section = source(kind)
    whole = run("whole", *STEPS, data=section)
    cut(whole.folder, 5)
    gone = sorted((tmp_path / "set").iterdir())[2]
    gone.rename(tmp_path / gone.name)
    with pytest.raises(DataError, match=r"has changed since it was first read: rows 37 to [0-9]+ hold other pairs"):
        run("whole", *STEPS, data=section, resume=True)
    (tmp_path / gone.name).rename(gone)
    assert run("whole", *STEPS, data=section, resume=True).status == "finished"
