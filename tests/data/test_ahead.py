"""Rows that are passed over: what comes behind them is what would have come, and nothing was made of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpoframe import PreferencePair, RefusedRow
from dpoframe.data import json_rows
from dpoframe.data.opening import open_dataset
from dpoframe.plugins import PluginHost
from dpoframe.testing import toy

ROWS = [{"prompt": f"p{n}", "chosen": f"c{n}", "rejected": f"r{n}"} for n in range(70)]
BROKEN = '{"prompt": "p", "chosen": \n'


def lines(rows: list[dict[str, str]]) -> str:
    """JSON Lines with a blank line and a broken one among them."""
    text = [json.dumps(row) + "\n" for row in rows]
    return "".join([*text[:3], "\n", BROKEN, *text[3:]])


@pytest.fixture
def files(tmp_path: Path) -> Callable[[str], Path]:
    """`files(kind)`: a folder of files of one kind with 70 rows and some that are refused."""

    def make(kind: str) -> Path:
        parts = [ROWS[:30], ROWS[30:31], ROWS[31:]]
        for number, part in enumerate(parts):
            place = tmp_path / f"{number}.{kind}"
            if kind == "parquet":
                pq.write_table(pa.Table.from_pylist(part), place, row_group_size=7)
            elif kind == "csv":
                place.write_text("prompt,chosen,rejected\n" + "".join(",".join(row.values()) + "\n" for row in part) + "a,b\n")
            elif kind == "json":
                place.write_text(json.dumps([*part, 7]))
            elif kind == "jsonl.gz":
                place.write_bytes(gzip.compress(lines(part).encode()))
            else:
                place.write_text(lines(part))
        if kind == "jsonl":
            (tmp_path / "1a.jsonl").write_text(2 * BROKEN)
        return tmp_path

    return make


def plain(row: PreferencePair | RefusedRow) -> tuple[Any, ...]:
    """What tells rows apart."""
    if isinstance(row, RefusedRow):
        return row.source, row.row, row.code
    return row.meta["origin"], row.meta["row"], row.chosen


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "json", "csv", "parquet"])
def test_the_rest_is_the_same(kind: str, files: Any, core: PluginHost) -> None:
    """Behind any number of rows, those of several files, of row groups, and refused ones among them."""
    name = {"jsonl.gz": "jsonl", "json": "jsonl"}.get(kind, kind)
    options = {"path": str(files(kind))}
    whole = [plain(row) for row in open_dataset(name, options, core)]
    assert len(whole) == {"jsonl": 75, "jsonl.gz": 73, "json": 73, "csv": 73, "parquet": 70}[kind]
    for ahead in range(len(whole) + 2):
        assert [plain(row) for row in open_dataset(name, options, core, ahead=ahead)] == whole[ahead:]


@pytest.mark.parametrize("kind", ["streamed", "loaded", "saved"])
def test_a_set_of_hugging_face(kind: str, files: Any, core: PluginHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library `datasets` passes over the rows, in every way in which it reads."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    options: dict[str, Any] = {"path": str(files("parquet")), "streaming": kind == "streamed"}
    if kind == "saved":
        datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
        options = {"path": str(tmp_path / "saved")}
    whole = [plain(row) for row in open_dataset("huggingface", options, core)]
    assert [row[1:] for row in whole] == [(n + 1, f"c{n}") for n in range(70)]
    for ahead in (0, 1, 19, 20, 21, 30, 35, 64, 69, 70, 75):
        assert [plain(row) for row in open_dataset("huggingface", options, core, ahead=ahead)] == whole[ahead:]


def test_a_set_that_reads_no_files() -> None:
    """A plugin's data set is read, and its first rows dropped."""
    host = PluginHost(entry_points=[])
    host.register(toy, "toy")
    whole = [row.id for row in open_dataset("toy", {"count": 9}, host) if isinstance(row, PreferencePair)]
    rest = [row.id for row in open_dataset("toy", {"count": 9}, host, ahead=4) if isinstance(row, PreferencePair)]
    assert len(whole) == 9
    assert rest == whole[4:]


def test_lines_that_are_passed_over_are_not_parsed(tmp_path: Path, core: PluginHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 5,000 rows behind 4,990 the last ten are parsed, and the first twenty, which tell the layout."""
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(ROWS[0] | {"prompt": f"p{n}"}) + "\n" for n in range(5000)))
    parsed, real = list[bytes](), json_rows._parse_line

    def noted(line: bytes) -> Any:
        parsed.append(line)
        return real(line)

    monkeypatch.setattr(json_rows, "_parse_line", noted)
    found = list(open_dataset("jsonl", {"path": str(file)}, core, ahead=4990))
    assert (len(found), len(parsed)) == (10, 30)


def test_row_groups_that_are_passed_over_are_not_read(tmp_path: Path, core: PluginHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five row groups the first is read for its layout, and the last."""
    file = tmp_path / "rows.parquet"
    rows = [ROWS[0] | {"prompt": f"p{n}"} for n in range(500)]
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=100)
    asked, real = list[int](), pq.ParquetFile.iter_batches

    def noted(self: Any, *given: Any, row_groups: list[int], **more: Any) -> Any:
        asked.extend(row_groups)
        return real(self, *given, row_groups=row_groups, **more)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noted)
    found = list(open_dataset("parquet", {"path": str(file)}, core, ahead=450))
    assert (len(found), asked) == (50, [0, 4])
