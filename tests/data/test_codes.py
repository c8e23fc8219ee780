"""Every stable code is given by the fault it names, with file and row, and by nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from dpoframe import DataError, Measure, Media, Modality, PreferencePair
from dpoframe.data.checks import RowChecks
from dpoframe.data.codes import CODES
from dpoframe.data.inspection import Inspection
from dpoframe.data.rows import RowError

GOOD = b'{"prompt": "p", "chosen": "c", "rejected": "r"}\n'


def plain(**changes):
    """A good row, changed."""
    return {"prompt": "p1", "chosen": "c1", "rejected": "r1", **changes}


def chat(role):
    """A chat row."""
    return {"prompt": [{"role": role, "content": "p"}], "chosen": "c", "rejected": "r"}


WEIGHTS = (b"-1", b'"x"', b"1e999", b"true")
LINES = {
    "invalid-json": [b'{"prompt": "p", "chosen": NaN}', b'{"prompt": "p"', b"{} {}", b"[1" * 5000, b'{"a": ' + b"9" * 5000 + b"}"],
    "not-utf8": [b'{"prompt": "p", "chosen": "\xff", "rejected": "r"}', rb'{"prompt": "p", "chosen": "\ud800", "rejected": "r"}'],
    "over-long": [b'{"prompt": "' + b"x" * (10 * 2**20) + b'"}'],
    "wrong-type": [b"3", b'"text"', b"[1, 2]", b"null", b'{"prompt": "p", "chosen": {"a": [1]}, "rejected": "r"}',
                   b'{"prompt": ["p"], "chosen": "c", "rejected": "r"}'],
    "prompt-missing": [b'{"prompt": null, "chosen": "c", "rejected": "r"}', b'{"chosen": "c", "rejected": "r"}'],
    "empty-prompt": [b'{"prompt": " \\n", "chosen": "c", "rejected": "r"}'],
    "empty-chosen": [b'{"prompt": "p", "chosen": "", "rejected": "r"}', b'{"prompt": "p", "rejected": "r"}'],
    "empty-rejected": [b'{"prompt": "p", "chosen": "c", "rejected": "\\t"}', b'{"prompt": "p", "chosen": "c", "rejected": null}'],
    "identical": [b'{"prompt": "p", "chosen": "c", "rejected": "c"}'],
    "duplicate": [GOOD.strip()],
    "tie": [b'{"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": 3, "score_rejected": 3.0}'],
    "reversed-scores": [b'{"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": 1, "score_rejected": 3.0}'],
    "control-character": [rb'{"prompt": "p", "chosen": "a\u0000", "rejected": "b"}'],
    "wrong-weight": [b'{"prompt": "p", "chosen": "a", "rejected": "b", "weight": %s}' % weight for weight in WEIGHTS],
}  # fmt: skip
ELSEWHERE = {
    "invalid-csv", "unknown-role", "prompts-differ", "identical-after-truncation", "unsuited", "media-missing", "leakage",
    "length-bias", "source-confound", "prompt-repeated", "contradiction", "truncated", "duplicate-prompt",
    "media-damaged", "media-too-large", "media-too-small", "media-outside",
}  # fmt: skip
"""Codes that the tests below, test_findings and test_loading bring about; those of damaged media are the plugins' that open it."""


def test_all_codes_are_tested():
    """No code is without a test that brings it about."""
    assert set(LINES) | ELSEWHERE == set(CODES)


@pytest.mark.parametrize(
    ("code", "line"), [(code, line) for code, lines in LINES.items() for line in lines], ids=lambda v: str(v)[:40]
)
def test_line(code, line, rows_file, load):
    """A faulty line between two good ones gives its code and its line number, and the good ones are used."""
    path = rows_file(GOOD + line + b"\n" + b'{"prompt": "q", "chosen": "c", "rejected": "r"}\n')
    loaded = load(path)
    (refused,) = loaded.refused
    assert (refused.code, refused.row, refused.source) == (code, 2, str(path))
    assert len(refused.reason) < 200
    assert len(loaded.train) == 2


def test_unknown_role(rows_file, load):
    """A role nobody knows is told with those that are known."""
    loaded = load(rows_file([chat("user"), chat("wizard")]))
    assert [(row.code, row.row) for row in loaded.refused] == [("unknown-role", 2)]
    assert "Known: system" in loaded.refused[0].reason


def test_hh_faults(rows_file, load):
    """HH-RLHF rows whose dialogues differ, or that end with the human's turn, or have no assistant's, are refused."""
    good = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}
    rows = [good, {**good, "rejected": "\n\nHuman: z\n\nAssistant: c"}, {**good, "rejected": good["rejected"] + "\n\nHuman: d"},
            {**good, "chosen": "text"}]  # fmt: skip
    loaded = load(rows_file([*rows, good | {"chosen": "\n\nHuman: a\n\nAssistant: e"}]))
    assert [(row.row, row.code) for row in loaded.refused] == [(2, "prompts-differ"), (3, "wrong-type"), (4, "wrong-type")]


@pytest.mark.parametrize("value", [-1, None, 0.5])
def test_tied_choice(value, rows_file, load):
    """Layouts that name the better response know ties of their own."""
    row = {"prompt": "p", "response_0": "a", "response_1": "b", "safer_response_id": 1}
    loaded = load(rows_file([row, {**row, "prompt": "q", "safer_response_id": value}]))
    assert [refused.code for refused in loaded.refused] == ["tie"]


@dataclass(frozen=True)
class Cut(Modality):
    """Measures in words and sees the first two of a response; a prompt of more than three cannot be used."""

    def build(self):
        """Has no model."""
        raise NotImplementedError

    def collate(self, examples):
        """Has no model."""
        raise NotImplementedError

    def score(self, model, batch):
        """Has no model."""
        raise NotImplementedError

    def measure(self, example):
        """Counts words."""
        prompt, words = example.prompt.split(), example.response.split()
        if len(prompt) > 3:
            raise DataError("The prompt has more than three words.")
        seen = words[:2] if len(prompt) < 3 else []
        digests = [hashlib.md5(" ".join(part).encode()).hexdigest() for part in (prompt, seen)]
        return Measure(len(prompt), len(seen), *digests, truncated=len(words) > 2)


def test_truncation(rows_file, load):
    """With a modality, what is the same or nothing once cut is refused, and what is cut is counted."""
    rows = [
        plain(chosen="a b", rejected="a c"),
        plain(chosen="a b c", rejected="a b d"),
        plain(prompt="p p p"),
        plain(prompt="p p p p"),
        plain(chosen="a d c", rejected="a b d"),
    ]
    loaded = load(rows_file(rows), modality=Cut())
    assert [(row.row, row.code) for row in loaded.refused] == [
        (2, "identical-after-truncation"),
        (3, "over-long"),
        (4, "unsuited"),
    ]
    notes = {finding["code"]: finding["figures"] for finding in loaded.summary["findings"]}
    assert notes["truncated"] == {"pairs": 1, "share": 0.5}
    assert loaded.summary["sources"][0]["lengths"]["unit"] == "units"


def test_media_missing(tmp_path):
    """Media that is not there is refused; media that is there is not."""
    picture = tmp_path / "a.png"
    picture.write_bytes(b"not looked at here")
    good = PreferencePair("p", Media("image", path=picture), "r")
    RowChecks().check(good)
    bad = PreferencePair("p", Media("image", path=Path("nowhere.png")), "r", id="x")
    with pytest.raises(RowError) as caught:
        RowChecks().check(bad)
    assert caught.value.code == "media-missing"


@pytest.mark.parametrize("content", [b"bytes", 3, ["a", "b"], None])
def test_content_of_a_plugin(content):
    """What a plugin's data set puts in a pair is checked as well."""
    with pytest.raises(RowError) as caught:
        RowChecks().check(PreferencePair("p", content, "r", id="x"))
    assert caught.value.code == "wrong-type"


def test_empty_messages():
    """No message, or messages without text, are empty; a tool call or a picture is not."""
    ask = [{"role": "user", "content": "hi"}]
    for content in ([], [{"role": "assistant", "content": " "}]):
        with pytest.raises(RowError) as caught:
            RowChecks().check(PreferencePair(ask, content, ask))
        assert caught.value.code == "empty-chosen"
    RowChecks().check(PreferencePair(ask, [{"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]}], ask))


def test_allow(rows_file, load):
    """A code that is allowed refuses nothing."""
    rows = [plain(), plain(), plain(chosen="x", score_chosen=1, score_rejected=1), plain(chosen="y\0"),
            plain(chosen="z", score_chosen=1, score_rejected=2)]  # fmt: skip
    path = rows_file(rows)
    assert load(path).counts == {"rows": 5, "train": 1, "validation": 0, "quarantined": 4, "duplicate": 1, "tie": 1,
                                 "control-character": 1, "reversed-scores": 1}  # fmt: skip
    assert not load(path, allow=["duplicate", "tie", "reversed-scores", "control-character"]).refused


def test_place_of_a_plugin_row():
    """A pair without a place is counted by its position in the data set."""
    checks = Inspection("mine")
    rows = list(checks.take([PreferencePair("p", "c", "r"), PreferencePair("p", "", "r")]))
    assert (rows[1].source, rows[1].row, rows[1].code) == ("mine", 2, "empty-chosen")
