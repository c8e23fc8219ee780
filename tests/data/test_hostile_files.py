"""Damaged, foreign and odd files end in codes with rows or in one clear error, never in a traceback."""

from __future__ import annotations

import errno
import gzip
import json
import os
import random
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpoframe import ConfigError, DataError, DpoframeError, MachineError
from dpoframe.data.files import written
from dpoframe.data.opening import open_dataset

ROWS = [{"prompt": f"p{i}", "chosen": f"c{i}", "rejected": f"r{i}"} for i in range(40)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def parquet_bytes(table) -> bytes:
    """A table as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    "content",
    [
        LINES,
        b"\xef\xbb\xbf" + LINES,
        LINES.replace(b"\n", b"\r\n"),
        LINES.rstrip(),
        b"\n\n" + LINES.replace(b"\n", b"\n \t\n"),
        gzip.compress(LINES),
        gzip.compress(LINES[:500]) + gzip.compress(LINES[500:]),
        json.dumps(ROWS).encode(),
        json.dumps(ROWS, indent=2).encode(),
        b"\xef\xbb\xbf \n" + json.dumps(ROWS).encode() + b"\n\n",
        gzip.compress(json.dumps(ROWS).encode()),
    ],
    ids=["plain", "bom", "crlf", "no-end", "blank", "gzip", "gzip-members", "array", "indented", "array-bom", "array-gzip"],
)
def test_odd_but_readable(content, rows_file, load):
    """Marks, line ends, blank lines, arrays and compression change nothing, whatever the file is called."""
    loaded = load(rows_file(content))
    assert [pair.chosen for pair in loaded.train] == [row["chosen"] for row in ROWS]
    assert not loaded.refused


def test_line_numbers(rows_file, load):
    """Rows of JSON Lines are numbered by lines, blank ones counted, so that an editor finds them."""
    loaded = load(rows_file(b"\n\n" + LINES + b"\nbroken\n"))
    assert [(row.row, row.code) for row in loaded.refused] == [(44, "invalid-json")]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "holds no rows"),
        (b"\n\n  \n", "holds no rows"),
        (b"[]", "holds no rows"),
        (gzip.compress(LINES)[:-20], "damaged or cut-off gzip"),
        (gzip.compress(LINES)[:60] + b"garbage" * 9, "damaged or cut-off gzip|binary|not text"),
        (b"\x1f\x8b", "damaged or cut-off gzip"),
        (LINES.decode().encode("utf-16"), "UTF-16"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not text"),
        (random.Random(0).randbytes(10_000), "not text"),
        (b"\x7fELF\x02\x01\x01\0\0", "not text"),
        (json.dumps(ROWS).encode()[:-40], "cut off"),
        (json.dumps(ROWS).encode()[:-1], "cut off"),
        (json.dumps(ROWS).encode() + b"[]", "more follows"),
        (json.dumps(ROWS).replace("}, {", "} {").encode(), "expected ','"),
        (b'[{"prompt": "p"}, oops, {}]', "element 2"),
        (b"hello\nworld\n", "All 2 rows .* were refused(.|\n)*invalid-json: 2"),
        (b"\xfe\xed\xfa\n" * 20_000, "None of the first 10,000 rows"),
        (b'{"prompt": "p", "chosen": "", "rejected": "r"}\n', "(?s)All 1 rows.*empty-chosen: 1.*:1: .*data check"),
    ],
)
def test_unusable(content, match, rows_file, load):
    """What cannot be read as rows is one DataError that says what is the matter."""
    with pytest.raises(DataError, match=match):
        load(rows_file(content))


def test_foreign_kinds(rows_file, load, tmp_path):
    """A Parquet file or an archive given as text is named for what it is, with the reader to take."""
    table = parquet_bytes(pa.Table.from_pylist(ROWS))
    with pytest.raises(DataError, match="Parquet file; read it with `name: parquet`"):
        load(rows_file(table, "a.jsonl"))
    with zipfile.ZipFile(tmp_path / "b.jsonl", "w") as archive:
        archive.writestr("a.jsonl", LINES)
    with pytest.raises(DataError, match="ZIP archive"):
        load(tmp_path / "b.jsonl")


@pytest.mark.parametrize("reader", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("seed", range(12))
def test_noise(reader, seed, rows_file, load):
    """Bytes without sense, or a good file with bytes changed, end in a DpoframeError or in counts that add up."""
    draw = random.Random(seed)
    good = {
        "jsonl": LINES,
        "csv": b"prompt,chosen,rejected\n" + b'"a","b","c"\n' * 30,
        "parquet": parquet_bytes(pa.Table.from_pylist(ROWS)),
    }
    content = bytearray(good[reader] if seed % 3 else draw.randbytes(3000))
    for _ in range(5):
        content[draw.randrange(len(content))] = draw.randrange(256)
    try:
        loaded = load(rows_file(bytes(content), f"x.{reader}"), name=reader)
    except DpoframeError:
        return
    assert loaded.counts["rows"] == loaded.summary["sources"][0]["rows"] == len(loaded.train) + len(loaded.refused)


def test_missing_file(load, tmp_path, rows_file):
    """A missing file is told with its neighbours."""
    rows_file(ROWS, "pears.jsonl")
    with pytest.raises(DataError, match=r"pairs\.jsonl does not exist.*holds: pears\.jsonl"):
        load(tmp_path / "pairs.jsonl")


def test_no_permission(load, rows_file, monkeypatch):
    """A file that may not be read is a fault of the machine."""
    path = rows_file(ROWS)

    def refuse(self, *args):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(MachineError, match="may not be read"):
        load(path)


def test_folder_as_file(load, tmp_path):
    """A folder without a fitting file is told."""
    with pytest.raises(DataError, match="holds no file that ends in"):
        load(tmp_path)


class TestArrays:
    """JSON arrays are read element by element."""

    def test_elements(self, rows_file, load):
        """A faulty element has its number, and the array goes on after it."""
        text = json.dumps([*ROWS[:2], 3, {"prompt": float("nan")}, None, *ROWS[2:]])
        loaded = load(rows_file(text.encode()))
        assert [(row.row, row.code) for row in loaded.refused] == [(3, "wrong-type"), (4, "invalid-json"), (5, "wrong-type")]
        assert len(loaded.train) == 40

    def test_bytes(self, rows_file, load):
        """Bytes that are not UTF-8 spoil their own element only."""
        loaded = load(rows_file(json.dumps(ROWS).encode().replace(b'"c7"', b'"\xff"')))
        assert [(row.row, row.code) for row in loaded.refused] == [(8, "not-utf8")]

    def test_large_elements(self, rows_file, load):
        """Elements larger than a chunk are read whole, split characters too."""
        rows = [{**row, "prompt": row["prompt"] + "é" * 100_001} for row in ROWS[:4]]
        loaded = load(rows_file(json.dumps(rows, ensure_ascii=False).encode()))
        assert [pair.prompt for pair in loaded.train] == [row["prompt"] for row in rows]


class TestCsv:
    """CSV with its own ways to break."""

    def test_faults(self, rows_file, load):
        """A wrong number of fields, a broken quote, bytes that are not UTF-8 and empty fields have codes and numbers."""
        text = b'prompt,chosen,rejected\na,b\na,b,c\na,"b"x,c\na,\xff,c\n,b,c\na,,c\n"a\nb","say ""hi""",c\n'
        loaded = load(rows_file(text, "x.csv"), name="csv")
        codes = [(row.row, row.code) for row in loaded.refused]
        assert codes == [(1, "invalid-csv"), (3, "invalid-csv"), (4, "not-utf8"), (5, "prompt-missing"), (6, "empty-chosen")]
        assert [(pair.prompt, pair.chosen) for pair in loaded.train] == [("a", "b"), ("a\nb", 'say "hi"')]

    def test_open_quote(self, rows_file, load):
        """A quote that never closes swallows no more than the limit of a row."""
        text = b'prompt,chosen,rejected\na,b,c\na,"b,c\n' + b"x,y,z\n" * 2_000_000
        loaded = load(rows_file(text, "x.csv"), name="csv", limit=2)
        assert loaded.refused[0].code == "over-long"

    def test_nul(self, rows_file, load):
        """NUL bytes mean that it is no text."""
        with pytest.raises(DataError, match="not text"):
            load(rows_file(b"prompt,chosen,rejected\na,b\0,c\n", "x.csv"), name="csv")

    @pytest.mark.parametrize(("text", "match"), [(b"", "no header"), (b"\n\n", "no header"), (b"a,a,b\n1,2,3\n", "'a' twice")])
    def test_header(self, text, match, rows_file, load):
        """A header is needed, and its names are distinct."""
        with pytest.raises(DataError, match=match):
            load(rows_file(text, "x.csv"), name="csv")


class TestParquet:
    """Parquet with its own ways to break."""

    def test_cut_off(self, rows_file, load):
        """A file that is cut off, or no Parquet, is one DataError."""
        data = parquet_bytes(pa.Table.from_pylist(ROWS))
        for content in (data[:-30], data[:100], b"PAR1", b"", LINES):
            with pytest.raises(DataError, match="not a whole Parquet file"):
                load(rows_file(content, "x.parquet"), name="parquet")

    def test_not_utf8(self, rows_file, load):
        """A text that is not UTF-8 spoils its own row only."""
        chosen = pa.array([b"a", b"\xff", b"c"]).cast(pa.binary()).view(pa.string())
        table = pa.table({"prompt": ["p", "q", "r"], "chosen": chosen, "rejected": ["x", "y", "z"]})
        loaded = load(rows_file(parquet_bytes(table), "x.parquet"), name="parquet")
        assert [(row.row, row.code) for row in loaded.refused] == [(2, "not-utf8")]

    def test_bytes_column(self, rows_file, load):
        """Bytes are no text."""
        table = pa.table({"prompt": [b"p"], "chosen": ["c"], "rejected": ["r"]})
        with pytest.raises(DataError, match=r"wrong-type|not known"):
            load(rows_file(parquet_bytes(table), "x.parquet"), name="parquet", layout="plain")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"pth": "x"}, "(?s)data.pth.*data.path: .* needs this key"),
        ({"path": 3, "columns": "prompt"}, "(?s)data.path: must be .*found int 3.*data.columns: must be"),
    ],
)
def test_wrong_options(options, match, core):
    """Unknown, missing and mistyped keys are told all at once."""
    with pytest.raises(ConfigError, match=match):
        open_dataset("jsonl", options, core)


def test_a_device_is_not_replaced_by_a_file(tmp_path):
    """What is no regular file (a pipe here) is refused as a target and stays what it was; nothing is left beside it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(MachineError, match="not a regular file"), written(pipe):
        pytest.fail("the body must not run")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
    assert pipe.is_fifo()
