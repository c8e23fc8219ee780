"""`dpoframe data check` and `data convert`: exit codes, documents, files."""

from __future__ import annotations

import json
import os

import pytest

from dpoframe.cli import main
from dpoframe.config import load_recipe
from dpoframe.data import load_pairs
from dpoframe.data.opening import open_dataset

GOOD = [{"prompt": f"p{n}", "chosen": f"c{n}", "rejected": f"r{n}"} for n in range(30)]


@pytest.fixture
def run(core, capsys):
    """Runs a command; returns exit code, stdout and stderr."""

    def call(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return call


def test_clean(run, rows_file):
    """A clean set: exit 0."""
    code, out, _ = run("data", "check", rows_file(GOOD))
    assert code == 0
    assert "30 rows = 30 usable + 0 refused; 30 prompts" in out


def test_findings(run, rows_file, tmp_path):
    """Refused rows: exit 1, a table by code with rows, and the quarantine file."""
    path = rows_file([*GOOD, GOOD[0], {**GOOD[1], "chosen": ""}])
    code, out, _ = run("data", "check", path, "--out", tmp_path / "bad.jsonl")
    assert code == 1
    assert "32 rows = 30 usable + 2 refused" in out
    assert "duplicate" in out
    assert "row 31: The same pair occurred before." in out
    assert "row 32: 'chosen' is empty or blank." in out
    assert [json.loads(line)["code"] for line in (tmp_path / "bad.jsonl").read_text().splitlines()] == ["duplicate", "empty-chosen"]


def test_set_finding(run, rows_file):
    """A doubtful set without a refused row exits with 1 as well; a note alone does not."""
    biased = [{**row, "chosen": row["chosen"] + " and more"} for row in GOOD]
    code, out, _ = run("data", "check", rows_file(biased))
    assert (code, "length-bias" in out) == (1, True)
    code, out, _ = run("data", "check", rows_file([*GOOD, {**GOOD[0], "chosen": "other"}]))
    assert (code, "duplicate-prompt" in out) == (0, True)


def test_document(run, rows_file):
    """--json gives one document with counts, first rows and findings."""
    code, out, _ = run("data", "check", rows_file([*GOOD, GOOD[0]]), "--json")
    document = json.loads(out)
    assert code == document["exit"] == 1
    assert (document["rows"], document["used"], document["quarantined"], document["by_code"]) == (31, 30, 1, {"duplicate": 1})
    assert document["first_rows"]["duplicate"][0]["row"] == 31
    assert document["lengths"]["unit"] == "characters"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"a": 1}], "layout of"),
        ([{**GOOD[0], "chosen": ""}], "empty-chosen"),
        (b"", "holds no rows"),
        (b"PK\x03\x04", "ZIP archive"),
    ],
)
def test_unusable(content, said, run, rows_file):
    """Unusable data: exit 2 and the reason, without a traceback."""
    code, out, err = run("data", "check", rows_file(content))
    assert code == 2
    assert said in out + err
    assert "Traceback" not in out + err


def test_wrong_source(run, tmp_path, rows_file):
    """A source that is not there or of no known kind, a wrong column: exit 2."""
    assert run("data", "check", tmp_path / "nowhere.jsonl")[0] == 2
    code, _, err = run("data", "check", rows_file(b"x", "a.docx"))
    assert (code, "no known kind" in err) == (2, True)
    rows_file(b"prompt,chosen,rejected\n", "both/a.csv")
    rows_file(GOOD, "both/a.jsonl")
    code, _, err = run("data", "check", tmp_path / "both")
    assert (code, "holds files for jsonl, csv" in err) == (2, True)
    code, _, err = run("data", "check", tmp_path / "both" / "a.jsonl", "--columns", "prompt")
    assert (code, "LAYOUT_COLUMN=FILE_COLUMN" in err) == (2, True)


def test_options(run, rows_file, tmp_path):
    """Layout, columns, split, limit and the validation file reach the reader."""
    rows = [{"q": row["prompt"], "chosen": row["chosen"], "rejected": row["rejected"]} for row in GOOD]
    rows_file(rows, "set/train.jsonl")
    held = rows_file(rows[:3], "set/test.jsonl")
    code, out, _ = run(
        "data", "check", tmp_path / "set", "--columns", "prompt=q", "--split", "train", "--limit", "20", "--layout", "plain"
    )
    assert (code, "20 rows = 20 usable" in out) == (0, True)
    code, out, _ = run("data", "check", tmp_path / "set/train.jsonl", "--columns", "prompt=q", "--against", held)
    assert (code, "leakage" in out) == (1, True)
    assert "30 rows = 27 usable + 3 refused" in out


FIRST = """
from dataclasses import dataclass
from dpoframe import Measure, Modality

@dataclass(frozen=True)
class First(Modality):
    def build(self): raise NotImplementedError
    def collate(self, examples): raise NotImplementedError
    def score(self, model, batch): raise NotImplementedError
    def measure(self, example): return Measure(1, 1, example.prompt, example.response[0], truncated=True)
"""
RECIPE = """
modality: {{name: ./first.py:First}}
data: {{name: jsonl, path: {path}, validation: {{name: jsonl, path: {held}}}}}
loss: {{name: sigmoid}}
"""


def test_recipe(run, rows_file, tmp_path):
    """A recipe as the source, or beside it, checks its data by what its model sees; its validation source is looked at too."""
    rows_file(FIRST.encode(), "first.py")
    alike = {"prompt": "p", "chosen": "ab", "rejected": "ac"}
    path, held = rows_file([*GOOD[:5], alike], "train.jsonl"), rows_file(GOOD[:1], "held.jsonl")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(path=path, held=held))
    code, out, _ = run("data", "check", recipe, "--json")
    assert code == 1
    assert json.loads(out)["by_code"] == {"leakage": 1, "identical-after-truncation": 1}
    code, out, _ = run("data", "check", path, "--recipe", recipe, "--json")
    assert json.loads(out)["by_code"] == {"identical-after-truncation": 1}
    code, _, err = run("data", "check", recipe, "--layout", "plain")
    assert (code, "a recipe says them itself" in err) == (2, True)


def test_a_recipe_is_judged_as_in_training(run, rows_file, tmp_path, core):
    """What `data.allow` lets pass refuses no row of a recipe's data nor of its validation source: used as in training."""
    rows_file(FIRST.encode(), "first.py")
    tie = {"score_chosen": 1, "score_rejected": 1}
    path = rows_file([*GOOD[:5], GOOD[0], {**GOOD[5], **tie}, {**GOOD[6], **tie}], "train.jsonl")
    held = rows_file([{**GOOD[6], **tie}], "held.jsonl")
    recipe = tmp_path / "recipe.yaml"
    text = RECIPE.format(path=path, held=held)
    recipe.write_text(text.replace("train.jsonl,", "train.jsonl, allow: [tie, duplicate],"))
    _, out, _ = run("data", "check", recipe, "--json")
    found, resolved = json.loads(out), load_recipe(recipe, host=core)
    assert (found["used"], found["by_code"]) == (7, {"leakage": 1})
    trained = load_pairs(resolved.data, core, resolved.modality.value)
    assert (len(trained.train), trained.summary["by_code"]) == (7, {"leakage": 1})
    recipe.write_text(text)
    code, _, err = run("data", "check", recipe)
    assert (code, "All 1 rows" in err, "tie" in err) == (2, True, True)


def test_data_set_without_a_path_has_a_name(run, rows_file, tmp_path):
    """The report of a plugin's data set whose `path` is empty begins with the data set's name."""
    rows_file(FIRST.encode(), "first.py")
    rows_file(
        b"from dpoframe import PreferencePair\n\n\ndef own(path: str = ''):\n    yield PreferencePair('p', 'c', 'r')\n", "own.py"
    )
    (tmp_path / "recipe.yaml").write_text("modality: ./first.py:First\ndata: {name: ./own.py:own}\n")
    code, out, _ = run("data", "check", tmp_path / "recipe.yaml")
    assert (code, out.startswith("data set '"), "1 rows = 1 usable" in out) == (0, True, True)


CHAT = [{"prompt": f"p{n}", "chosen": [{"role": "user", "content": f"p{n}"}, {"role": "assistant", "content": f"c{n}"}],
         "rejected": [{"role": "user", "content": f"p{n}"}, {"role": "assistant", "content": f"r{n}"}],
         "score_chosen": 2.5, "score_rejected": 1.0} for n in range(2500)]  # fmt: skip


@pytest.mark.parametrize("rows", [GOOD, CHAT], ids=["text", "chat"])
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_round_trip(rows, form, run, rows_file, tmp_path, core):
    """A converted file holds the same pairs, by their ids, with their scores; converting it again changes no byte of JSON."""
    path, out = rows_file(rows), tmp_path / f"out.{form}"
    assert run("data", "convert", path, "--out", out)[0] == 0
    before = list(open_dataset("jsonl", {"path": str(path)}, core))
    after = list(open_dataset(form, {"path": str(out)}, core))
    assert [pair.id for pair in after] == [pair.id for pair in before]
    assert [pair.meta.get("score_chosen") for pair in after] == [row.get("score_chosen") for row in rows]
    if form == "jsonl":
        assert run("data", "convert", out, "--out", tmp_path / "again.jsonl")[0] == 0
        assert (tmp_path / "again.jsonl").read_bytes() == out.read_bytes()


def test_convert_leaves_out(run, rows_file, tmp_path):
    """Rows that fail a check are left out and told; an existing file is kept unless forced; nothing usable writes nothing."""
    out = tmp_path / "out.jsonl"
    code, _, err = run("data", "convert", rows_file([*GOOD, GOOD[0]]), "--to", "jsonl", "--out", out)
    assert (code, "1 of 31 rows are left out" in err) == (0, True)
    assert len(out.read_text().splitlines()) == 30
    code, _, err = run("data", "convert", rows_file(GOOD[:3]), "--out", out)
    assert (code, "--force" in err) == (2, True)
    assert len(out.read_text().splitlines()) == 30
    assert run("data", "convert", rows_file(GOOD[:3]), "--out", out, "--force")[0] == 0
    assert len(out.read_text().splitlines()) == 3
    none = tmp_path / "none.jsonl"
    assert run("data", "convert", rows_file([{**GOOD[0], "chosen": ""}]), "--out", none)[0] == 2
    assert run("data", "convert", rows_file(GOOD), "--out", tmp_path / "x.docx")[0] == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.jsonl", "pairs.jsonl"]


def test_parquet_types(run, rows_file, tmp_path):
    """What Parquet's typed columns cannot hold is told, and nothing is left behind."""
    tool = {
        "prompt": [{"role": "user", "content": "p"}],
        "chosen": [{"role": "assistant", "content": "", "tool_calls": ["f"]}],
        "rejected": "r",
    }
    code, _, err = run("data", "convert", rows_file([tool]), "--out", tmp_path / "x.parquet")
    assert (code, "Take --to jsonl" in err) == (2, True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["pairs.jsonl"]


def test_refused_rows_never_take_the_place_of_data(run, rows_file, tmp_path):
    """A quarantine file that is the source, lies in its folder, or is the converted file is refused; the source stays."""
    path = rows_file([*GOOD, GOOD[0]])
    before = path.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(path)
    whole = tmp_path / "whole.jsonl"
    for words, said in [
        (("check", path, "--out", path), "data is read from"),
        (("check", path, "--out", tmp_path / "link.jsonl"), "data is read from"),
        (("check", tmp_path, "--out", tmp_path / "bad.jsonl"), "data is read from"),
        (("check", rows_file(GOOD, name="other.jsonl"), "--against", path, "--out", path), "data is read from"),
        (("convert", path, "--out", whole, "--quarantine", path), "data is read from"),
        (("convert", path, "--out", whole, "--quarantine", whole), "the same file"),
    ]:
        code, out, err = run("data", *words)
        assert (code, out) == (2, ""), words
        assert said in err
    assert path.read_bytes() == before
    assert not whole.exists()
    assert not (tmp_path / "bad.jsonl").exists()


def test_a_pipe_is_no_data(run, tmp_path):
    """A named pipe is refused at once: opening it would wait for ever."""
    os.mkfifo(tmp_path / "pipe.jsonl")
    code, _, err = run("data", "check", tmp_path / "pipe.jsonl")
    assert code == 2
    assert "no regular file" in err
