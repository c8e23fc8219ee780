"""Problems out of files: every published layout, every kind of file, and rows that are broken."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dpoframe_code.problems import Problem, oracle_of, problem_of, read_problems
from dpoframe_code.problems.dataset import code_problems
from dpoframe_code.problems.prompts import answer_of, blank_of, prompt_of
from dpoframe_code.sandbox import Sandbox, Status

from dpoframe import DataError, MachineError, PreferencePair, RefusedRow, Sample, UnscoredError, as_text
from dpoframe.testing import DatasetContract

LAYOUTS = ("HumanEval", "HumanEval+", "EvalPlus", "MBPP", "sanitized", "MBPP+")
Rows = dict[str, dict[str, Any]]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A file of rows, by the end of its name."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(json.dumps(rows) if path.name.endswith(".json") else text)
    return path


def one(path: Path, **options: Any) -> Problem:
    """The only problem in a file."""
    (found,) = read_problems(path, **options)
    assert isinstance(found, Problem), found
    return found


def test_layouts(tmp_path: Path, rows: Rows) -> None:
    """Each layout is told by its columns, and gives name, function, tests, starter and a whole program as solution."""
    found = {name: one(written(tmp_path / f"{number}.jsonl", [rows[name]])) for number, name in enumerate(LAYOUTS)}
    assert [(each.id, each.entry_point, each.kind) for each in found.values()] == [
        ("HumanEval/900", "top", "check"),
        ("HumanEval/901", "top", "check"),
        ("HumanEval/902", "top", "inputs"),
        ("MBPP/12", "larger", "asserts"),
        ("MBPP/700", "root", "asserts"),
        ("MBPP/701", "root", "asserts"),
    ]
    assert found["HumanEval"].solution == rows["HumanEval"]["prompt"] + rows["HumanEval"]["canonical_solution"]
    assert found["EvalPlus"].inputs == [[[1, 3, 2]], [[]], [[-4, -9]]]
    assert found["MBPP"].text == "Write a function to find the larger\nof two numbers."
    assert "\r" not in found["MBPP"].solution
    assert "inputs = [[4]" in found["MBPP+"].tests
    assert "inputs" not in "".join(found["MBPP+"].shown)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "json", "parquet"])
def test_files(tmp_path: Path, rows: Rows, ending: str) -> None:
    """A problem is the same whatever kind of file it lies in."""
    for name in ("HumanEval", "sanitized"):
        path = written(tmp_path / f"{name}.{ending}", [rows[name]])
        assert one(path) == one(written(tmp_path / "plain.jsonl", [rows[name]]))


def test_saved_data_set(tmp_path: Path, rows: Rows) -> None:
    """A data set that `datasets` wrote to a folder is read as well."""
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "saved"
    datasets.Dataset.from_list([rows["HumanEval"]]).save_to_disk(str(folder))
    assert one(folder).id == "HumanEval/900"


BROKEN = {
    "unknown-layout": ("HumanEval", {"test": None}),
    "no-id": ("HumanEval", {"task_id": None}),
    "no-prompt": ("HumanEval", {"prompt": " "}),
    "no-entry-point": ("HumanEval", {"entry_point": "top(xs)"}),
    "broken-tests": ("HumanEval", {"test": "def check(candidate:\n"}),
    "broken-prompt": ("HumanEval", {"prompt": "def top(xs:\n", "canonical_solution": ""}),
    "broken-solution": ("HumanEval", {"canonical_solution": "    return (\n"}),
    "no-tests": ("MBPP", {"test_list": []}),
    "no-text": ("MBPP", {"text": ""}),
    "lossy-inputs": ("EvalPlus", {"task_id": "Mbpp/2"}),
}


@pytest.mark.parametrize("code", BROKEN)
def test_broken_rows(tmp_path: Path, rows: Rows, code: str) -> None:
    """A broken row is refused with file, row, a stable code and the reason; rows around it are read."""
    name, change = BROKEN[code]
    path = written(tmp_path / "rows.jsonl", [rows["sanitized"], {**rows[name], **change}, rows["MBPP+"]])
    before, refused, after = read_problems(path)
    assert isinstance(before, Problem)
    assert isinstance(after, Problem)
    assert isinstance(refused, RefusedRow)
    assert (refused.source, refused.row, refused.code) == (str(path), 2, code)
    assert len(refused.reason) > 20


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("HumanEval", {"test": "assert top([]) == 0"}, "broken-tests"),
        ("HumanEval", {"canonical_solution": "    pass\n"}, "broken-solution"),
        ("MBPP", {"code": "def other(): return 1"}, "no-entry-point"),
        ("MBPP", {"code": "def larger(a, b:"}, "broken-solution"),
        ("MBPP", {"test_list": "assert larger(1, 2) == 2"}, "no-tests"),
        ("EvalPlus", {"base_input": [], "plus_input": []}, "no-tests"),
        ("EvalPlus", {"base_input": [1, 2]}, "no-tests"),
        ("HumanEval", {"entry_point": 3}, "no-entry-point"),
    ],
)
def test_more_broken_rows(tmp_path: Path, rows: Rows, name: str, change: dict[str, Any], code: str) -> None:
    """Tests and solutions that are Python and yet none are found before anything runs."""
    (refused,) = read_problems(written(tmp_path / "rows.jsonl", [{**rows[name], **change}]))
    assert isinstance(refused, RefusedRow)
    assert refused.code == code


def test_rows_that_are_no_rows(tmp_path: Path, rows: Rows) -> None:
    """A line that is no JSON, and a problem that occurs twice, are refused."""
    path = tmp_path / "rows.jsonl"
    line = json.dumps(rows["MBPP"])
    path.write_text(f"{line}\n{{not json\n{line}\n")
    found = list(read_problems(path))
    assert [type(each) for each in found] == [Problem, RefusedRow, RefusedRow]
    assert found[2].code == "twice"  # type: ignore[union-attr]


def test_parts_of_mbpp(tmp_path: Path, rows: Rows) -> None:
    """Of MBPP's own file a part is its task ids; other layouts are whole."""
    numbers = (1, 10, 11, 510, 511, 600, 601, 974)
    path = written(tmp_path / "mbpp.jsonl", [{**rows["MBPP"], "task_id": number} for number in numbers])
    parts = {
        part: [each.id for each in read_problems(path, part=part)] for part in ("prompt", "test", "validation", "train", "all")
    }  # type: ignore[union-attr,arg-type]
    assert parts["prompt"] == ["MBPP/1", "MBPP/10"]
    assert parts["test"] == ["MBPP/11", "MBPP/510"]
    assert parts["validation"] == ["MBPP/511", "MBPP/600"]
    assert parts["train"] == ["MBPP/601", "MBPP/974"]
    assert len(parts["all"]) == 8
    assert one(written(tmp_path / "plus.jsonl", [rows["MBPP+"]]), part="test").id == "MBPP/701"


def test_prompts(tmp_path: Path, rows: Rows) -> None:
    """Base models get HumanEval's prompt byte for byte, and MBPP as a docstring; chat models a message; none shows hidden tests."""
    human, mbpp = (one(written(tmp_path / f"{name[0]}.jsonl", [rows[name]])) for name in ("HumanEval", "MBPP+"))
    assert prompt_of(human, "base") == rows["HumanEval"]["prompt"]
    assert as_text(prompt_of(mbpp, "base")).startswith('"""\nWrite a function to find the root.\nassert math.isclose(')
    asked = prompt_of(mbpp, "chat")
    assert [message["role"] for message in asked] == ["user"]  # type: ignore[union-attr,index]
    for form in ("chat", "base"):
        texts = [as_text(prompt_of(each, form)) for each in (human, mbpp)]  # type: ignore[arg-type]
        assert "`root`" in texts[1] or form == "base"
        assert not any(secret in text for text in texts for secret in ("max(xs", "candidate", "inputs", "inf"))


@pytest.mark.parametrize("form", ["chat", "base"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_answers_are_found_again(tmp_path: Path, rows: Rows, name: str, form: Any) -> None:
    """The solution as an answer is extracted as a program that defines the function; the blank answer is one that raises."""
    from dpoframe_code.extraction import extract

    problem = one(written(tmp_path / "rows.jsonl", [rows[name]]))
    for answer in (answer_of(problem, form), blank_of(problem, form)):
        assert extract(answer, problem.entry_point, problem.starter, base=form == "base").rule < 5


def test_problem_travels_with_a_sample(tmp_path: Path, rows: Rows) -> None:
    """What a sample's `meta` carries is JSON, and is the problem again."""
    for name in LAYOUTS:
        problem = one(written(tmp_path / "rows.jsonl", [rows[name]]))
        meta = json.loads(json.dumps({"problem": problem.plain()}))
        again = problem_of(Sample("a", "?", "", meta=meta))
        assert again is not None
        assert again.digest() == problem.digest()


def test_columns_travel_with_a_sample(rows: Rows) -> None:
    """A suite that reads a published file by itself gives samples whose `meta` are its columns: they are a problem too."""
    row = rows["HumanEval"]
    meta = {key: value for key, value in row.items() if key != "prompt"}
    found = problem_of(Sample("HumanEval/900#0", row["prompt"], "", meta=meta))
    assert found is not None
    assert found.starter == row["prompt"]
    assert problem_of(Sample("a", "?", "", meta={"topic": "tea"})) is None


@pytest.mark.parametrize(
    "meta", [{"problem": {"kind": "check"}}, {"problem": {"entry_point": "f", "kind": "no"}}, {"test_list": []}]
)
def test_broken_problem_in_a_sample(meta: dict[str, Any]) -> None:
    """A broken problem leaves its samples unscored, with the reason."""
    with pytest.raises(UnscoredError, match="infra_error: the problem"):
        problem_of(Sample("a", "?", "", meta=meta))


def test_without_a_path() -> None:
    """A suite without the benchmark's file says what gets it, for each benchmark."""
    with pytest.raises(MachineError, match=r"(?s)curl -LO https://\S+HumanEval.jsonl.gz\n.*curl -LO https://\S+mbpp.jsonl"):
        code_problems()
    with pytest.raises(DataError, match=r"(?s)away.jsonl is not there .*curl -LO"):
        code_problems("away.jsonl")


class TestDataset(DatasetContract):
    """`code_problems` keeps the contract of data sets."""

    dataset = staticmethod(code_problems)

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
        path = written(tmp_path / "rows.jsonl", [*rows.values(), {"task_id": 1}])
        monkeypatch.setattr(type(self), "options", {"path": str(path)})


def test_pairs(tmp_path: Path, rows: Rows) -> None:
    """The solution is chosen, a function that does nothing is rejected, and the tests travel in `meta`."""
    path = written(tmp_path / "rows.jsonl", [rows["HumanEval"]])
    (pair,) = code_problems(str(path), form="base")
    assert isinstance(pair, PreferencePair)
    assert (pair.id, pair.chosen) == ("HumanEval/900", "    return max(xs, default=0)\n")
    assert pair.rejected == "    raise NotImplementedError\n"
    assert pair.meta["problem"]["tests"] == rows["HumanEval"]["test"]


def test_chat_answers_are_laid_out_alike(tmp_path: Path, rows: Rows) -> None:
    """A solution indented by one space is the same program with four in a chat answer, and as it was in a base one."""
    row = {**rows["MBPP"], "code": "def larger(a, b):\r\n if a > b:\r\n  return a\r\n return b"}
    path = written(tmp_path / "rows.jsonl", [row])
    (chat,), (base,) = (list(code_problems(str(path), form=form)) for form in ("chat", "base"))
    assert isinstance(chat, PreferencePair)
    assert isinstance(base, PreferencePair)
    assert chat.chosen == "```python\ndef larger(a, b):\n    if a > b:\n        return a\n    return b\n```"
    assert base.chosen == row["code"].replace("\r\n", "\n")


def test_example_is_whole(sandbox: Sandbox) -> None:
    """The problems that come with the package are sound: each one's own solution passes its tests."""
    found = list(read_problems(code_problems.example_options["path"]))  # type: ignore[attr-defined]
    assert [each.id for each in found] == ["example/0", "example/1", "example/2"]  # type: ignore[union-attr]
    for each in found:
        assert isinstance(each, Problem)
        assert oracle_of(each, sandbox).judge(sandbox, each.solution).status is Status.PASSED
