"""`dpoframe data build`: which answers become pairs, what is left out and counted, and what is written."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dpoframe import Media
from dpoframe.cli import main
from dpoframe.config import load_recipe
from dpoframe.data import load_pairs
from dpoframe.harness import Subject, Suite, run_suite
from dpoframe.harness.storage.media import Blobs
from dpoframe.harness.suites.suite import Prompt
from dpoframe.plugins import PluginHost, using
from dpoframe.testing import ToyModality, toy
from dpoframe.train.fit import fit

EVALUATORS = '''
from dataclasses import dataclass
from dpoframe import Evaluator, EvaluatorSpec, Media, Scale, UnscoredError


@dataclass(frozen=True)
class Vowels(Evaluator):
    """How many vowels an answer has, times a factor; a question mark cannot be scored."""

    factor: float = 1.0
    spec = EvaluatorSpec("vowels/1", "2.5", "response", {"count": Scale(0, None), "length": Scale(0, None, "", None)}, "count")

    def score(self, sample):
        if "?" in sample.response:
            raise UnscoredError("a question")
        return {"count": self.factor * sum(letter in "aeiou" for letter in sample.response), "length": len(sample.response)}


@dataclass(frozen=True)
class Loops(Evaluator):
    """Whether an answer repeats one letter."""

    spec = EvaluatorSpec("loops/1", "1", "response", {"loop": Scale(0, 1, "share", "lower")}, "loop")

    def score(self, sample):
        return {"loop": float(len(set(sample.response)) == 1)}


@dataclass(frozen=True)
class Size(Evaluator):
    """How large a picture's file is, and its mask's."""

    spec = EvaluatorSpec("size/1", "1", "response", {"bytes": Scale(0, None)}, "bytes")

    def score(self, sample):
        assert isinstance(sample.response, Media)
        return {"bytes": float(len(sample.response.path.read_bytes()))}


@dataclass(frozen=True)
class Held(Evaluator):
    """Reads pairs."""

    spec = EvaluatorSpec("held/1", "1", "pair", {"margin": Scale()}, "margin")

    def score(self, sample):
        return {"margin": 0.0}
'''
ROWS = [
    {"prompt": "one", "responses": ["aaa", "bbb", "abe", "aeb", "why?"], "id": "first", "topic": "tea"},
    {"prompt": "two", "responses": ["xyz", "ooo"], "source": "elsewhere"},
    {"prompt": "three", "response": "bcd"},
    {"prompt": "four", "responses": ["ab", "cae", "ca"]},
]


@pytest.fixture
def build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Any]]:
    """`build(rows or paths, evaluator, *words)`: exit code, rows written, the --json document, what stderr said."""
    (tmp_path / "mine.py").write_text(EVALUATORS)
    count = itertools.count()

    def call(given: Any, evaluator: str = "Vowels", *words: Any) -> tuple[int, list[dict[str, Any]], dict[str, Any], str]:
        sources = given if all(isinstance(one, Path) for one in given) else [written(tmp_path / "rows.jsonl", given)]
        out, part = tmp_path / f"pairs-{next(count)}.jsonl", f"{tmp_path / 'mine.py'}:{evaluator}"
        command = ["data", "build", *sources, "--out", out, "--evaluator", part, *words, "--json"]
        capsys.readouterr()
        code = main([str(word) for word in command])
        said = capsys.readouterr()
        rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
        return code, rows, json.loads(said.out) if said.out.strip() else {}, said.err

    with using(PluginHost([], [])):
        yield call


def written(file: Path, rows: Any) -> Path:
    """A file of rows."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def sides(rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Prompt, chosen and rejected."""
    return [(row["prompt"], row["chosen"], row["rejected"]) for row in rows]


def test_the_best_goes_against_the_worst(build: Any) -> None:
    """One pair a prompt with the evidence; what has no score, or no rival, is counted."""
    code, rows, told, _ = build(ROWS)
    assert code == 0
    assert sides(rows) == [("one", "aaa", "bbb"), ("two", "ooo", "xyz"), ("four", "cae", "ca")]
    assert rows[0] == {
        "prompt": "one", "chosen": "aaa", "rejected": "bbb", "score_chosen": 3.0, "score_rejected": 0.0, "evaluator": "vowels/1",
        "evaluator_version": "2.5", "metric": "count", "better": "higher", "chosen_source": "rows", "rejected_source": "rows",
        "chosen_id": "first#0", "rejected_id": "first#1", "chosen_count": 3.0, "rejected_count": 0.0, "chosen_length": 3.0,
        "rejected_length": 3.0,
    }  # fmt: skip
    assert (rows[1]["chosen_source"], rows[2]["chosen_id"]) == ("elsewhere", "row 4#1")
    assert {name: told[name] for name in ("pairs", "prompts", "asked", "answers", "tied", "alone", "repeated")} == {
        "pairs": 3, "prompts": 3, "asked": 4, "answers": 11, "tied": 0, "alone": 1, "repeated": 0,
    }  # fmt: skip
    assert told["unscored"] == {"a question": 1}


def test_a_prompt_may_give_several(build: Any) -> None:
    """--per-prompt 2 adds the second best against the second worst, where these differ."""
    _, rows, told, _ = build(ROWS, "Vowels", "--per-prompt", 2)
    assert sides(rows) == [("one", "aaa", "bbb"), ("two", "ooo", "xyz"), ("four", "cae", "ca")]
    assert told["tied"] == 1  # abe and aeb have two vowels each


def test_all_pairs_above_a_margin(build: Any) -> None:
    """--mode all takes every two that differ by more than the margin, the largest first, at most so many a prompt."""
    _, rows, told, _ = build(ROWS, "Vowels", "--mode", "all", "--margin", 1)
    wanted = [("one", "aaa", "bbb"), ("one", "abe", "bbb"), ("one", "aeb", "bbb"), ("two", "ooo", "xyz")]
    assert sides(rows) == wanted
    assert told["tied"] == 3 + 3  # aaa-abe, aaa-aeb, abe-aeb; cae-ab, cae-ca, ab-ca
    _, rows, _, _ = build(ROWS, "Vowels", "--mode", "all", "--margin", 1, "--per-prompt", 2)
    assert sides(rows) == [wanted[0], wanted[1], wanted[3]]


def test_another_metric_and_another_way(build: Any) -> None:
    """--metric, --better and --set decide; scores are turned so that the chosen one's is the higher."""
    _, rows, told, _ = build(ROWS, "Vowels", "--metric", "length", "--better", "lower")
    assert sides(rows) == [("four", "ab", "cae")]
    assert (rows[0]["score_chosen"], rows[0]["score_rejected"], rows[0]["better"]) == (-2.0, -3.0, "lower")
    assert told["tied"] == 2
    _, rows, _, _ = build(ROWS, "Vowels", "--set", "factor=0.5")
    assert rows[0]["score_chosen"] == 1.5


def test_what_failed_is_rejected(build: Any) -> None:
    """--mode failed pairs each answer that is flagged with the best that is not, by the scale's bad end or a given value."""
    rows = [{"prompt": "one", "responses": ["aaa", "bab", "bbb", "ab"]}, {"prompt": "two", "responses": ["ccc", "ddd"]}]
    _, made, told, _ = build(rows, "Loops", "--mode", "failed")
    assert sides(made) == [("one", "bab", "bbb"), ("one", "bab", "aaa")]
    assert (made[0]["score_chosen"], made[0]["score_rejected"], told["unmet"]) == (0.0, -1.0, 1)
    _, made, _, _ = build(rows, "Vowels", "--mode", "failed", "--failed-at", 1)
    assert sides(made) == [("one", "aaa", "bbb"), ("one", "aaa", "ab"), ("one", "aaa", "bab")]


def test_a_right_answer_may_be_the_chosen_one(build: Any) -> None:
    """--from-reference takes a row's reference as chosen, scored like the others: one that is flagged itself gives no pair."""
    rows = [
        {"prompt": "one", "responses": ["aaa", "abc"], "reference": "good"},
        {"prompt": "two", "responses": ["bbb", "abc"], "reference": "zzz"},
        {"prompt": "three", "responses": ["ccc", "abc"]},
    ]
    _, made, told, _ = build(rows, "Loops", "--mode", "failed", "--from-reference")
    assert sides(made) == [("one", "good", "aaa")]
    assert (made[0]["chosen_source"], told["unmet"], told["answers"], told["repeated"]) == ("reference", 2, 6, 0)


def test_a_right_answer_that_a_model_gave_as_well_stays_the_chosen_one(build: Any) -> None:
    """A row's answer is a candidate where one of the answers is the same, once, whether it comes in one row or in several."""
    rows = [
        {"prompt": "one", "responses": ["good", "aaa"], "reference": "good"},
        {"prompt": "one", "response": "bbb", "reference": "good"},
    ]
    _, made, told, _ = build(rows, "Loops", "--mode", "failed", "--from-reference")
    assert sides(made) == [("one", "good", "bbb"), ("one", "good", "aaa")]
    assert {row["chosen_source"] for row in made} == {"reference"}
    assert (told["answers"], told["repeated"]) == (3, 0)


def test_answers_of_one_prompt_meet_from_several_files(build: Any, tmp_path: Path) -> None:
    """Files are brought together by prompt; an answer that occurs again is counted once; bad rows are refused and counted."""
    first = written(tmp_path / "a.jsonl", [{"prompt": "one", "response": "aaa"}, {"prompt": "one", "response": 3}])
    second = written(
        tmp_path / "b.jsonl", [{"prompt": "one", "response": "bcd", "sample": 4, "id": "x"}, {"prompt": "one", "response": "aaa"}]
    )
    code, rows, told, _ = build([first, second])
    assert code == 0
    assert (rows[0]["chosen_source"], rows[0]["rejected_source"], rows[0]["rejected_id"]) == ("a", "b", "x#4")
    assert (told["repeated"], told["refused"]) == (1, {"wrong-type": 1})
    assert "a.jsonl, row 2: 'response' must be text" in told["first_refused"]


def test_an_evaluation_is_a_source(build: Any, tmp_path: Path) -> None:
    """The folder of an evaluation gives its answers, under the model's name, and a recipe trains on the pairs."""
    prompts = tuple(Prompt(f"p{number}", f"say {letter}") for number, letter in enumerate("abcdef"))
    suite = Suite("letters", "1", "", prompts, (), {"max_new_tokens": 6}, 5, 3, ())
    run_suite(Subject("toy model", ToyModality(), ToyModality().build()), suite, tmp_path / "eval")
    code, rows, told, _ = build([tmp_path / "eval"])
    assert (code, told["answers"], told["asked"]) == (0, 30, 6)
    assert {row["chosen_source"] for row in rows} == {"toy model"}
    assert all(row["score_chosen"] > row["score_rejected"] for row in rows)
    host = PluginHost(entry_points=[])
    host.register(toy, "toy")
    data = {"name": "jsonl", "path": str(told["out"])}
    trainer = {"max_steps": 2, "accelerator": "cpu", "devices": 1, "batch_size": 2}
    recipe = load_recipe({"modality": {"name": "toy"}, "data": data, "trainer": trainer}, host=host)
    loaded = load_pairs(recipe.data, host)
    assert len(loaded.train) == len(rows)
    assert loaded.refused == []
    assert loaded.train[0].meta["evaluator"] == "vowels/1"
    assert fit(recipe, tmp_path / "run", host=host).status == "finished"


def pictures(folder: Path, count: int = 3) -> list[str]:
    """Files of growing size, named from their folder."""
    (folder / "drawn").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / "drawn" / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * (10 * number + 1))
    return [f"drawn/{number}.png" for number in range(count)]


def read_back(file: Path) -> Any:
    """The pairs that a recipe sees."""
    section = SimpleNamespace(name="jsonl", options={"path": str(file)}, validation=None, limit=None)
    return load_pairs(section, PluginHost([], []))


def test_pictures_are_copied_beside_the_pairs(build: Any, tmp_path: Path) -> None:
    """Paths of pictures are read with --media image; the pairs name copies by content, which move with the file."""
    names = pictures(tmp_path / "in")
    mask = {"media": "image", "path": names[1]}
    rows = [
        {"prompt": "a cat", "responses": names},
        {"prompt": "a dog", "responses": [{"media": "image", "path": names[2], "mask": mask}, names[0]]},
    ]
    source = written(tmp_path / "in" / "rows.jsonl", rows)
    code, made, told, _ = build([source], "Size", "--media", "image")
    assert code == 0
    shutil.rmtree(tmp_path / "in")
    shutil.move(str(tmp_path / "blobs"), tmp_path / "moved" / "blobs")
    shutil.move(told["out"], tmp_path / "moved" / "pairs.jsonl")
    pairs = read_back(tmp_path / "moved" / "pairs.jsonl").train
    assert [pair.prompt for pair in pairs] == ["a cat", "a dog"]
    assert [len(pair.chosen.path.read_bytes()) for pair in pairs] == [29, 29]
    assert [len(pair.rejected.path.read_bytes()) for pair in pairs] == [9, 9]
    assert (pairs[0].chosen.mask, len(pairs[1].chosen.mask.path.read_bytes())) == (None, 19)
    assert len(list((tmp_path / "moved" / "blobs").iterdir())) == 3
    assert all(set(row) >= {"evaluator", "score_chosen"} for row in made)


def test_pictures_may_stay_where_they_lie(build: Any, tmp_path: Path) -> None:
    """--no-copy names pictures that lie below the folder of the pairs, and refuses others."""
    rows = [{"prompt": "a cat", "responses": pictures(tmp_path)}]
    code, made, told, _ = build([written(tmp_path / "rows.jsonl", rows)], "Size", "--media", "image", "--no-copy")
    assert (code, made[0]["chosen"]) == (0, {"media": "image", "path": "drawn/2.png"})
    assert read_back(Path(told["out"])).train[0].chosen == Media("image", path=tmp_path / "drawn" / "2.png")
    assert not (tmp_path / "blobs").exists()
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    source = written(outside / "rows.jsonl", [{"prompt": "a cat", "responses": pictures(outside)}])
    code, made, _, said = build([source], "Size", "--media", "image", "--no-copy")
    assert (code, made) == (2, [])
    assert "--no-copy" in said


def test_a_broken_write_leaves_nothing(build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file cannot be finished, neither it nor the copies it made are left; the verdicts are, for the next try."""
    source = written(tmp_path / "in" / "rows.jsonl", [{"prompt": "a cat", "responses": pictures(tmp_path / "in")}])

    copied = Blobs.stored

    def full(blobs: Blobs, content: Any) -> Any:
        if (blobs.path / "blobs").is_dir():
            raise OSError(28, "No space left on device")
        return copied(blobs, content)

    with monkeypatch.context() as patched:
        patched.setattr(Blobs, "stored", full)
        code, made, _, said = build([source], "Size", "--media", "image")
    assert (code, made) == (3, [])
    assert "Free some space" in said
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__", "pairs-0.verdicts"} == {"in", "mine.py"}


@pytest.mark.parametrize(
    ("rows", "evaluator", "words", "said"),
    [
        (ROWS, "Held", (), "reads held-out pairs"),
        (ROWS, "Vowels", ("--metric", "rate"), "a sample has: count, length"),
        (ROWS, "Vowels", ("--metric", "length"), "--better"),
        (ROWS, "Vowels", ("--set", "factr=2"), "- factr (--set): is no key here. Did you mean 'factor'?"),
        (ROWS, "Vowls", (), "Vowels"),
        (ROWS, "Vowels", ("--mode", "failed", "--metric", "length", "--better", "lower"), "--failed-at"),
        (ROWS, "Vowels", ("--failed-at", "1"), "--mode failed"),
        (ROWS, "Vowels", ("--margin", "9"), "did not differ by more than the margin"),
        (ROWS, "Vowels", ("--media", "picture"), "image, audio, video"),
        (ROWS, "Vowels", ("--media", "image"), "media-missing|is not there"),
        ([{"prompt": "p", "responses": ["../../x"]}], "Vowels", ("--media", "image"), "leaves the folder"),
        ([{"prompt": "one", "responses": ["why?", "how?"]}], "Vowels", (), "a question"),
        ([{"question": "one"}], "Vowels", (), "There is no 'prompt'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(rows: Any, evaluator: str, words: tuple[str, ...], said: str, build: Any) -> None:
    """Each mistake, and data that gives no pair, is one message without a traceback, exit 2, and no file."""
    code, made, _, told = build(rows, evaluator, *words)
    assert (code, made) == (2, [])
    assert any(part in told for part in said.split("|"))
    assert "Traceback" not in told


def test_a_misspelt_name_is_told_as_it_was_given(build: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An evaluator that nobody supplies is a fault of --evaluator, with the nearest name."""
    source = written(tmp_path / "rows.jsonl", ROWS)
    assert main(["data", "build", str(source), "--out", str(tmp_path / "p.jsonl"), "--evaluator", "contians_expected"]) == 2
    assert "- --evaluator: No evaluator is called 'contians_expected'. Did you mean 'contains_expected'?" in capsys.readouterr().err


def test_what_lies_there_stays(build: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that exists is replaced with --force alone, and never by a build that gives no pair."""
    out, source = tmp_path / "old.jsonl", written(tmp_path / "rows.jsonl", ROWS)
    out.write_text("old")
    command = ["data", "build", str(source), "--out", str(out), "--evaluator", f"{tmp_path / 'mine.py'}:Vowels"]
    assert main(command) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*command, "--force", "--margin", "99"]) == 2
    assert out.read_text() == "old"
    assert main([*command, "--force"]) == 0
    assert "3 pairs of 3 prompts written" in capsys.readouterr().out
    assert len(out.read_text().splitlines()) == 3


def test_sources_that_are_none(build: Any, tmp_path: Path) -> None:
    """A run's folder names the evaluations in it, a file of another kind what is read; one named twice is refused."""
    suite = Suite("letters", "1", "", (Prompt("p", "say"),), (), {"max_new_tokens": 3}, 1, 3, ())
    run_suite(Subject("toy", ToyModality(), ToyModality().build()), suite, tmp_path / "run" / "eval" / "letters")
    (tmp_path / "notes.txt").write_text("x")
    rows = written(tmp_path / "rows.jsonl", ROWS)
    for sources, said in (
        ([tmp_path / "run"], "run/eval/letters"),
        ([tmp_path / "notes.txt"], ".jsonl"),
        ([tmp_path / "absent.jsonl"], "does not exist"),
        ([rows, rows], "twice"),
    ):
        code, made, _, told = build(sources)
        assert (code, made) == (2, [])
        assert said in told
