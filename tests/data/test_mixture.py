"""Mixtures keep their weights at every point, without chance."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpoframe import ConfigError, DataError, PreferencePair, RefusedRow, UnknownNameError
from dpoframe.data.mixture import interleave, whose_turn
from dpoframe.data.opening import open_dataset


def endless(name):
    """Pairs without end."""
    number = 0
    while True:
        number += 1
        yield PreferencePair(f"{name}{number}", "c", "r")


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=7), st.integers(1, 300))
def test_shares(weights, count):
    """After any n pairs each source has given n times its share, to within less than one (Tijdeman 1980)."""
    shares = [weight / sum(weights) for weight in weights]
    taken = [0] * len(weights)
    for total in range(1, count + 1):
        taken[whose_turn(shares, taken)] += 1
        assert all(abs(total * share - had) < 1 for share, had in zip(shares, taken, strict=True))


def test_exact_order():
    """Two to one: the order is always the same."""
    mixed = interleave([endless("a"), endless("b")], [2, 1], "first")
    assert [next(mixed).prompt for _ in range(6)] == ["a1", "b1", "a2", "a3", "b2", "a4"]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), min_size=1, max_size=5))
def test_all(sizes):
    """With `stop: all` every row of every source comes out once, each source in its own order."""
    streams = [iter([PreferencePair(f"{index}", f"{n}", "r") for n in range(size)]) for index, (size, _) in enumerate(sizes)]
    found = list(interleave(streams, [weight for _, weight in sizes], "all"))
    for index, (size, _) in enumerate(sizes):
        assert [pair.chosen for pair in found if pair.prompt == str(index)] == [str(n) for n in range(size)]


@pytest.fixture
def sources(rows_file):
    """Two files: 30 pairs and 10, the second with a refused row."""
    a = rows_file([{"prompt": f"a{i}", "chosen": "c", "rejected": "r"} for i in range(30)], "a.jsonl")
    b = rows_file([{"prompt": f"b{i}", "chosen": "c", "rejected": "r"} for i in range(10)], "b.jsonl")
    b.write_text("oops\n" + b.read_text())
    return [{"name": "jsonl", "path": str(a), "weight": 1}, {"name": "jsonl", "path": str(b), "weight": 1.0}]


def test_data_set(sources, core):
    """`first` ends with the first source that is out, `all` uses everything; refused rows pass through."""
    first = list(open_dataset("mixture", {"sources": sources}, core))
    assert [row.code for row in first if isinstance(row, RefusedRow)] == ["invalid-json"]
    assert [sum(isinstance(row, PreferencePair) and row.prompt[0] == name for row in first) for name in "ab"] == [11, 10]
    everything = list(open_dataset("mixture", {"sources": sources, "stop": "all"}, core))
    assert len(everything) == 41


def test_nested(sources, core):
    """A mixture may hold a mixture."""
    inner = {"name": "mixture", "sources": sources, "stop": "all", "weight": 3}
    rows = list(open_dataset("mixture", {"sources": [inner, sources[0]], "stop": "all"}, core))
    assert len(rows) == 71


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"sources": []}, ConfigError, "at least one source"),
        ({"sources": [{"weight": 0}]}, ConfigError, r"(?s)sources\.0\.name.*sources\.0\.weight"),
        ({"sources": [{"name": "jsnl"}]}, UnknownNameError, "jsonl"),
        ({"sources": [{"name": "jsonl"}]}, ConfigError, r"data\.sources\.0\.path"),
        ({"sources": [{"name": "jsonl", "path": "nowhere.jsonl"}]}, DataError, "does not exist"),
        ({"sources": [{"name": "jsonl", "path": "x"}], "stop": "never"}, ConfigError, "data.stop"),
        ({"sources": "a.jsonl"}, ConfigError, "data.sources"),
    ],
)
def test_mistakes(change, error, match, core):
    """Mistakes in a mixture are told where they are."""
    with pytest.raises(error, match=match):
        list(open_dataset("mixture", json.loads(json.dumps(change)), core))
