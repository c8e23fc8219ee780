"""All readers give the same pairs for the same rows, in bounded memory."""

from __future__ import annotations

import csv
import gzip
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpoframe import DataError, MachineError, MissingExtraError
from dpoframe.data.opening import open_dataset

ROWS = [
    {"prompt": f"p{i}", "chosen": f"c{i} é", "rejected": f"r{i}\nx", "score_chosen": 2.0, "score_rejected": 1.0} for i in range(600)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same rows in every format."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet", row_group_size=100)
    for name, separator in (("a.csv", ","), ("a.tsv", "\t")):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(ROWS[0]), delimiter=separator)
            writer.writeheader()
            writer.writerows(ROWS)
    return tmp_path


@pytest.mark.parametrize(
    ("reader", "name"),
    [
        ("jsonl", "a.jsonl"),
        ("jsonl", "a.jsonl.gz"),
        ("jsonl", "a.json"),
        ("parquet", "a.parquet"),
        ("csv", "a.csv"),
        ("csv", "a.tsv"),
    ],
)
def test_same_pairs(reader, name, folder, core):
    """Contents, ids and order do not depend on the format."""
    pairs = list(open_dataset(reader, {"path": str(folder / name)}, core))
    assert [(pair.prompt, pair.chosen, pair.rejected) for pair in pairs] == [
        (row["prompt"], row["chosen"], row["rejected"]) for row in ROWS
    ]
    assert [pair.meta["row"] for pair in pairs[:2]] == [1, 2] if reader != "jsonl" else True
    assert len({pair.id for pair in pairs}) == 600


class TestHuggingFace:
    """The library `datasets`, offline: local folders, saved sets, streaming."""

    @pytest.mark.parametrize("streaming", [False, True])
    def test_folder(self, streaming, folder, core, tmp_path, monkeypatch):
        """A folder of data files is loaded by split, streaming or not."""
        pytest.importorskip("datasets")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        place = tmp_path / "set"
        place.mkdir()
        (folder / "a.parquet").rename(place / "test-00000-of-00001.parquet")
        pairs = list(open_dataset("huggingface", {"path": str(place), "split": "test", "streaming": streaming}, core))
        assert [pair.chosen for pair in pairs] == [row["chosen"] for row in ROWS]
        with pytest.raises(DataError, match="split 'train'"):
            open_dataset("huggingface", {"path": str(place), "streaming": streaming}, core)

    def test_saved(self, core, tmp_path):
        """What `save_to_disk` wrote is loaded, one set or several splits."""
        datasets = pytest.importorskip("datasets")
        made = datasets.Dataset.from_list(ROWS)
        made.save_to_disk(tmp_path / "one")
        datasets.DatasetDict({"train": made}).save_to_disk(tmp_path / "several")
        for name in ("one", "several"):
            pairs = list(open_dataset("huggingface", {"path": str(tmp_path / name)}, core))
            assert [pair.rejected for pair in pairs] == [row["rejected"] for row in ROWS]

    def test_not_there(self, core, tmp_path, monkeypatch):
        """A set that cannot be loaded is one DataError with the cause."""
        pytest.importorskip("datasets")
        with pytest.raises(DataError, match=r"cannot be loaded: \w+: "):
            open_dataset("huggingface", {"path": str(tmp_path)}, core)

    def test_no_network(self, core, tmp_path, monkeypatch):
        """Where the hub's name does not resolve the cache alone is asked, and the message says so at once."""
        datasets = pytest.importorskip("datasets")
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)

        def unresolved(*given):
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unresolved)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
        began = time.monotonic()
        with pytest.raises(MachineError, match=r"nobody/nothing.*not on this machine, and the hub cannot be reached"):
            open_dataset("huggingface", {"path": "nobody/nothing"}, core)
        assert time.monotonic() - began < 5
        assert not datasets.config.HF_HUB_OFFLINE

    def test_not_installed(self, core, monkeypatch):
        """Without the library, the install line is given."""
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(MissingExtraError, match=r'pip install "dpoframe\[datasets\]"'):
            open_dataset("huggingface", {"path": "x/y"}, core)


class TestFolders:
    """Folders, lists and splits."""

    def test_splits(self, rows_file, core, tmp_path):
        """A split is the files of its name; a list of files and a folder are read in order, the layout told for each."""
        rows_file(ROWS[:2], "data/train-00000-of-00002.jsonl")
        rows_file([{"chosen": "a b c", "rejected": "a b d"}], "data/train-00001-of-00002.jsonl")
        test = rows_file(ROWS[3:4], "data/test.jsonl")
        inner = rows_file(ROWS[4:5], "data/more/train/x.jsonl")

        def prompts(path, **options):
            return [pair.prompt for pair in open_dataset("jsonl", {"path": path, **options}, core)]

        assert prompts(str(tmp_path / "data"), split="test") == ["p3"]
        assert prompts(str(tmp_path / "data"), split="train") == ["p4", "p0", "p1", "a b"]
        assert prompts([str(test), str(inner)]) == ["p3", "p4"]
        with pytest.raises(DataError, match=r"No file of .* belongs to split 'validation'"):
            prompts(str(tmp_path / "data"), split="validation")
        with pytest.raises(DataError, match="single file"):
            prompts(str(test), split="test")

    def test_patterns(self, rows_file, core, tmp_path):
        """A pattern means the files that fit it, sorted; a file whose own name looks like one is itself."""
        for number in (2, 0, 1):
            rows_file(ROWS[number : number + 1], f"data/part-{number}.jsonl")
        rows_file(ROWS[3:4], "data/deep/er/part-9.jsonl")
        rows_file(ROWS[4:5], "data/part-[0].jsonl")

        def prompts(path, **options):
            return [pair.prompt for pair in open_dataset("jsonl", {"path": f"{tmp_path}/data/{path}", **options}, core)]

        assert prompts("part-?.jsonl") == ["p0", "p1", "p2"]
        assert prompts("part-[12].jsonl") == ["p1", "p2"]
        assert prompts("**/part-?.jsonl") == ["p3", "p0", "p1", "p2"]
        assert prompts("part-[0].jsonl") == ["p4"]
        with pytest.raises(DataError, match=r"No file fits .*none-\*\.jsonl"):
            prompts("none-*.jsonl")
        with pytest.raises(DataError, match="with the pattern"):
            prompts("part-*.jsonl", split="test")


SCRIPT = """
import resource, sys
from dpoframe.plugins import PluginHost
from dpoframe.data.opening import open_dataset
host = PluginHost([], [])
def run(path):
    count = sum(1 for _ in open_dataset(sys.argv[1], {"path": path}, host))
    return count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
_, before = run(sys.argv[2])
count, after = run(sys.argv[3])
print(count, after - before)
"""


@pytest.mark.parametrize("name", ["parquet", "jsonl", "json"])
def test_memory(name, tmp_path):
    """Reading 80 MB of rows after a small file takes less than 25 MB more: rows are held a few hundred at a time."""
    text = "x" * 1000
    rows = [{"prompt": f"{i} {text}", "chosen": f"{i} a {text}", "rejected": f"{i} b {text}"} for i in range(27_000)]
    small, large = tmp_path / f"small.{name}", tmp_path / f"large.{name}"
    for path, part in ((small, rows[:600]), (large, rows)):
        if name == "parquet":
            # Distinct texts without compression: the file is as large as the rows.
            pq.write_table(pa.Table.from_pylist(part), path, compression="none", use_dictionary=False, row_group_size=2000)
        elif name == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in part))
        else:
            path.write_text(json.dumps(part))
    reader = "parquet" if name == "parquet" else "jsonl"
    done = subprocess.run([sys.executable, "-c", SCRIPT, reader, small, large], capture_output=True, text=True, check=True)
    count, kilobytes = map(int, done.stdout.split())
    assert large.stat().st_size > 80_000_000
    assert count == 27_000
    assert kilobytes < 25_000
