"""Data sets of Hugging Face named on the command line, and validation data beside them."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import time

import pytest

from dpoframe.cli import main

ROWS = [{"prompt": f"p{n}", "chosen": f"c{n}", "rejected": f"r{n}"} for n in range(30)]


@pytest.fixture
def run(core, capsys):
    """Runs a verb of `dpoframe data`; returns exit code, stdout and stderr."""

    def call(*words):
        capsys.readouterr()
        code = main(["data", *map(str, words)])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """The working directory is an empty folder; `../sets/pairs` beside it is a set of two splits that `datasets` saved."""
    datasets = pytest.importorskip("datasets")
    splits = {"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list(ROWS[:4])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "sets" / "pairs")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "sets" / "pairs"


@pytest.fixture
def hub(saved, monkeypatch):
    """The hub has one data set, `owner/pairs`; gives the (id, subset, split) that were asked for."""
    import datasets

    asked = []

    def load(path, subset, *, split, **_):
        asked.append((path, subset, split))
        return datasets.load_from_disk(str(saved))[split]

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr("dpoframe.data.hub_rows.hub_reachable", lambda: True)
    return asked


@pytest.mark.parametrize("name", ["owner/pairs", "hub:owner/pairs", "hub:pairs"])
def test_an_id_is_read_from_the_hub(name, run, hub):
    """An id with a slash that is no path, or any id behind `hub:`, is a data set on the hub, its split and subset as given."""
    code, out, _ = run("check", name)
    assert (code, "30 rows = 30 usable" in out) == (0, True)
    code, out, _ = run("check", name, "--split", "test", "--subset", "clean")
    assert (code, "4 rows = 4 usable" in out) == (0, True)
    plain = name.removeprefix("hub:")
    assert hub == [(plain, None, "train"), (plain, "clean", "test")]


def test_convert_takes_an_id(run, hub, tmp_path):
    """What is on the hub is converted like a file."""
    code, _, _ = run("convert", "owner/pairs", "--split", "test", "--out", tmp_path / "out.jsonl")
    assert code == 0
    assert [json.loads(line)["prompt"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == ["p0", "p1", "p2", "p3"]


def test_validation_data_has_a_split_of_its_own(run, saved, hub):
    """`--against-split` picks the split of the validation data, of a saved folder and of the hub; alone it is refused."""
    for place in (saved, "owner/pairs"):
        code, out, _ = run("check", place, "--split", "train", "--against", place, "--against-split", "test", "--json")
        assert (code, json.loads(out)["by_code"]) == (1, {"leakage": 4})
    code, _, err = run("check", saved, "--against-split", "test")
    assert (code, "belongs to --against" in err) == (2, True)


def test_a_path_stays_a_path(run, saved, hub, rows_file):
    """A folder of that name is read, not the hub; a file that is missing, or a deeper path, is told as missing."""
    os.chdir(saved.parents[1])
    assert run("check", "sets/pairs")[0] == 0
    for name in ("sets/absent.jsonl", "./absent", "a/b/c", "absent"):
        code, _, err = run("check", name)
        assert (code, "neither a file" in err, "hub:OWNER/NAME" in err) == (2, True, True)
    assert hub == []


def test_no_library(run, tmp_path, monkeypatch):
    """Without the library `datasets` an id ends with 3 and the line that installs it."""
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *given: None if name == "datasets" else found(name, *given))
    monkeypatch.chdir(tmp_path)
    code, _, err = run("check", "owner/pairs")
    assert (code, "owner/pairs" in err, 'pip install "dpoframe[datasets]"' in err.replace("\n", " ")) == (3, True, True)


def test_no_network(run, saved, monkeypatch):
    """Without a network an id ends with 3 and one message, at once."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def unresolved(*given):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unresolved)
    began = time.monotonic()
    code, out, err = run("check", "owner/pairs")
    assert time.monotonic() - began < 5
    assert (code, out, err.count("error:")) == (3, "", 1)
    assert "is not on this machine, and the hub cannot be reached" in " ".join(err.split())


def test_how_to_get_the_refused_rows(run, rows_file, tmp_path):
    """Where rows are refused, the report says how to get them all; where none is, or they are written, it does not."""
    path = rows_file([*ROWS, ROWS[0]])
    assert "--out FILE writes all refused rows" in run("check", path)[1]
    assert "--out FILE" not in run("check", path, "--out", tmp_path / "bad.jsonl")[1]
    assert "--out FILE" not in run("check", rows_file(ROWS, "good.jsonl"))[1]


def test_a_pattern_is_checked_as_one_set(run, rows_file, tmp_path):
    """The verb takes a pattern too; refused rows are not written where it would read them the next time."""
    rows_file(ROWS[:10], "set/a-0.jsonl")
    rows_file([*ROWS[10:20], ROWS[0]], "set/a-1.jsonl")
    rows_file(ROWS[20:], "set/b.jsonl")
    code, out, _ = run("check", tmp_path / "set" / "a-*.jsonl", "--json")
    found = json.loads(out)
    assert (code, found["rows"], found["by_code"]) == (1, 21, {"duplicate": 1})
    for pattern, name in (("a-*.jsonl", "a-bad.jsonl"), ("../**/*.jsonl", "bad.jsonl")):
        code, _, err = run("check", tmp_path / "set" / pattern, "--out", tmp_path / "set" / name)
        assert (code, "refused rows would be written to" in err) == (2, True)
    assert run("check", tmp_path / "set" / "a-*.jsonl", "--out", tmp_path / "set" / "bad.jsonl")[0] == 1
    code, _, err = run("check", tmp_path / "set" / "c-*.jsonl")
    assert (code, "No file fits" in err) == (2, True)
