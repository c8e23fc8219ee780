"""Loading adds up: every row is trained on, validated on or quarantined, and no prompt is on both sides."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpoframe import ConfigError, DataError, MachineError, PluginError, PreferencePair, hookimpl
from dpoframe.data.prompts import prompt_digest
from dpoframe.data.splitting import split_by_prompt


def rows(count, prompts=None):
    """Good rows, with so many prompts."""
    return [{"prompt": f"p{n % (prompts or count)}", "chosen": f"c{n}", "rejected": f"r{n}"} for n in range(count)]


def digests(pairs):
    """The prompts of pairs."""
    return {prompt_digest(pair.prompt) for pair in pairs}


VALUE = st.one_of(st.sampled_from(["", "a", "b", "c d", "\u00e9"]), st.none(), st.integers(0, 2))
ROW = st.fixed_dictionaries(dict.fromkeys(("prompt", "chosen", "rejected"), VALUE))
NOISE = st.binary(max_size=20).filter(lambda line: not set(line) & set(b"\0\n"))
LINE = st.one_of(NOISE, ROW.map(lambda row: json.dumps(row).encode()))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(lines=st.lists(LINE, max_size=25), validation=st.one_of(st.none(), st.floats(0, 0.9)), seed=st.integers(0, 5))
def test_counts_add_up(lines, validation, seed, rows_file, load):
    """Whatever the rows are: rows in = train + validation + refused, each row once, no prompt on both sides."""
    head = json.dumps({"prompt": "x", "chosen": "y", "rejected": "z"}).encode()
    path = rows_file(b"\n".join([head, *lines]) + b"\n")
    loaded = load(path, validation=validation, seed=seed, layout="plain")
    places = [pair.meta["row"] for pair in [*loaded.train, *loaded.validation]] + [row.row for row in loaded.refused]
    assert len(places) == len(set(places)) == loaded.rows == loaded.counts["rows"]
    assert loaded.rows == sum(bool(line.strip()) for line in path.read_bytes().split(b"\n"))
    assert sum(count for code, count in loaded.summary["by_code"].items()) == len(loaded.refused)
    assert not digests(loaded.train) & digests(loaded.validation)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.floats(0, 0.99), st.integers(0, 9))
def test_split(prompts, share, seed):
    """A split loses nothing, parts no prompt, asks for no more than wanted (one prompt at least), and repeats itself."""
    pairs = [PreferencePair(f"p{prompt}", f"c{n}", "r") for n, prompt in enumerate(prompts)]
    train, validation = split_by_prompt(pairs, share, seed)
    assert sorted(pair.chosen for pair in train + validation) == sorted(pair.chosen for pair in pairs)
    assert not digests(train) & digests(validation)
    assert train
    assert (train, validation) == split_by_prompt(pairs, share, seed)
    smallest = min(prompts.count(prompt) for prompt in prompts)
    assert len(validation) <= max(round(share * len(pairs)), smallest)
    assert bool(validation) == (share > 0 and len(set(prompts)) > 1)


def test_split_ignores_order():
    """The same prompts are drawn however the rows are ordered, and others with another seed."""
    pairs = [PreferencePair(f"p{n}", "c", "r") for n in range(100)]
    first = digests(split_by_prompt(pairs, 0.2, 0)[1])
    assert first == digests(split_by_prompt(pairs[::-1], 0.2, 0)[1])
    assert first != digests(split_by_prompt(pairs, 0.2, 1)[1])
    assert len(first) == 20


@pytest.mark.parametrize(("wanted", "size"), [(0.05, 2), (7, 7), (0, 0), (None, 0), (0.001, 1)])
def test_validation_size(wanted, size, rows_file, load):
    """A share or a number of pairs."""
    assert len(load(rows_file(rows(40)), validation=wanted).validation) == size


@pytest.mark.parametrize(
    ("wanted", "error"),
    [(1.5, ConfigError), (-1, ConfigError), (True, ConfigError), ("5%", ConfigError), (40, DataError), ({}, ConfigError)],
)
def test_wrong_validation(wanted, error, rows_file, load):
    """What is no share, number or source is told."""
    with pytest.raises(error, match=r"data\.validation"):
        load(rows_file(rows(40)), validation=wanted)


def test_validation_source(rows_file, load):
    """A validation source stays whole; training rows with its prompts are refused as leakage."""
    train = rows_file(rows(20))
    held = rows_file([{"prompt": " p3 ", "chosen": "x", "rejected": "y"}, {"prompt": "new", "chosen": "x", "rejected": ""},
                      {"prompt": "other", "chosen": "x", "rejected": "y"}], "held.jsonl")  # fmt: skip
    loaded = load(train, validation={"name": "jsonl", "path": str(held)})
    assert loaded.counts == {"rows": 23, "train": 19, "validation": 2, "quarantined": 2, "leakage": 1, "empty-rejected": 1}
    assert [(row.source, row.row, row.code) for row in loaded.refused] == [
        (str(train), 4, "leakage"),
        (str(held), 2, "empty-rejected"),
    ]


def test_all_leaked(rows_file, load):
    """A training set that is the validation set leaves nothing to train on."""
    path = rows_file(rows(5))
    with pytest.raises(DataError, match="leakage: 5"):
        load(path, validation={"name": "jsonl", "path": str(path)})


def test_limit(rows_file, load):
    """Reading ends after so many usable pairs; refused rows before count for none."""
    loaded = load(rows_file([{"prompt": "p", "chosen": "", "rejected": "r"}, *rows(30)]), limit=10)
    assert loaded.counts == {"rows": 11, "train": 10, "validation": 0, "quarantined": 1, "empty-chosen": 1}
    with pytest.raises(ConfigError, match=r"data\.limit"):
        load(rows_file(rows(3)), limit=0)


def test_written(rows_file, load, tmp_path):
    """The run folder gets every refused row with source, row, code and reason, and the counts; nothing else is left."""
    path = rows_file(b'{"prompt": "p", "chosen": "\xff"}\n' + json.dumps(rows(1)[0]).encode())
    loaded = load(path)
    loaded.write(tmp_path / "run")
    data = tmp_path / "run" / "data"
    (row,) = [json.loads(line) for line in (data / "quarantine.jsonl").read_text().splitlines()]
    assert (row["source"], row["row"], row["code"]) == (str(path), 1, "not-utf8")
    summary = json.loads((data / "summary.json").read_text())
    assert (summary["rows"], summary["train"], summary["quarantined"], summary["by_code"]) == (2, 1, 1, {"not-utf8": 1})
    assert sorted(file.name for file in data.iterdir()) == ["quarantine.jsonl", "summary.json"]
    assert "1 of 2 rows are refused (not-utf8 1)" in loaded.warnings[0]


def test_not_written(rows_file, load, tmp_path, monkeypatch):
    """A full disk leaves the old file as it was and no temporary one, and is told as such."""
    loaded = load(rows_file(rows(3)))
    loaded.write(tmp_path / "run")
    before = (tmp_path / "run/data/summary.json").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MachineError, match=r"No space left on device\. Free some space"):
        loaded.write(tmp_path / "run")
    assert (tmp_path / "run/data/summary.json").read_bytes() == before
    assert len(list((tmp_path / "run/data").iterdir())) == 2


class Broken:
    """A plugin whose data sets misbehave."""

    @hookimpl
    def dpoframe_datasets(self):
        """Three ways to be wrong."""
        return {"raises": self.raises, "strays": self.strays, "good": self.good}

    @staticmethod
    def raises():
        """Breaks after a pair."""
        yield PreferencePair("p", "c", "r")
        raise KeyError("oops")

    @staticmethod
    def strays():
        """Yields no pair."""
        yield {"prompt": "p"}

    @staticmethod
    def good(count: int = 3):
        """Yields pairs without a place."""
        return (PreferencePair(f"p{n}", "c", "r") for n in range(count))


@pytest.mark.parametrize(("name", "match"), [("raises", "'raises' failed: KeyError: 'oops'"), ("strays", "yielded dict")])
def test_broken_data_set(name, match, core, load):
    """A plugin's fault is told as the plugin's."""
    core.register(Broken(), "broken")
    with pytest.raises(PluginError, match=match):
        load(name=name)


def test_data_set_of_a_plugin(core, load):
    """A plugin's data set is loaded like any other, its options checked by its annotations."""
    core.register(Broken(), "broken")
    assert len(load(name="good", count=5).train) == 5
    with pytest.raises(ConfigError, match=r"data\.count: must be int, found str 'x'"):
        load(name="good", count="x")


HELD = [{"prompt": f"h{n}", "chosen": "c", "rejected": "r"} for n in range(4)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda train, held: train.pop(), "pairs.jsonl) had 6 usable pairs, and has 5 now."),
        (lambda train, held: train.append({"prompt": "new", "chosen": "c", "rejected": "r"}), "had 6 usable pairs, and has 7 now."),
        (lambda train, held: train[2].update(chosen="other"), "pairs.jsonl) has 6 usable pairs as before, but not the same ones"),
        (lambda train, held: train[2].update(weight=0.5), "pairs.jsonl) has 6 usable pairs as before, but not the same ones"),
        (lambda train, held: train.reverse(), "or in another order."),
        (lambda train, held: held[0].update(rejected="other"), "held.jsonl) has 4 usable pairs as before, but not the same ones"),
    ],
    ids=["fewer", "more", "rewritten", "reweighted", "reversed", "held-out"],
)
def test_other_pairs_than_a_run_began_with(change, told, rows_file, load, tmp_path):
    """Pairs that a run folder's own are not, by number, content, weight or order, are told with the source that changed."""
    train, held = rows(6), [dict(row) for row in HELD]

    def loaded():
        rows_file(held, "held.jsonl")
        return load(rows_file(train), validation={"name": "jsonl", "path": str(tmp_path / "held.jsonl")})

    loaded().write(tmp_path / "run")
    loaded().require_same(tmp_path / "run")
    change(train, held)
    with pytest.raises(DataError, match=rf"{re.escape(told)}(.|\n)*another --out") as caught:
        loaded().require_same(tmp_path / "run")
    assert str(caught.value).count("  - ") == 1


def test_a_row_that_is_refused_anyway_changes_nothing(rows_file, load, tmp_path):
    """What counts is the pairs that are used: a refused row may come or go."""
    load(rows_file(rows(6))).write(tmp_path / "run")
    load(rows_file([*rows(6), {"prompt": "p", "chosen": "", "rejected": "r"}])).require_same(tmp_path / "run")


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"sources": 3}', '{"sources": [3]}', '{"sources": [{"used": 6}]}'])
def test_a_run_folder_without_digests(content, rows_file, load, tmp_path):
    """A run folder whose summary is missing, damaged or of an older version says nothing of its pairs, and is not refused."""
    if content is not None:
        (tmp_path / "run" / "data").mkdir(parents=True)
        (tmp_path / "run" / "data" / "summary.json").write_text(content)
    load(rows_file(rows(6))).require_same(tmp_path / "run")
