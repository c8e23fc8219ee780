"""The verbs eval and generate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpoframe.checkpoint import export
from dpoframe.cli import main
from dpoframe.plugins import PluginHost, using
from dpoframe.testing import toy
from dpoframe.testing.toy import ToyModality

SUITE = """
name: small
version: 1
prompts: [say a, say b, say c]
pairs: {name: toy, count: 8}
generation: {max_new_tokens: 6}
evaluators: [response_length, finished, preference_accuracy, contains_expected]
"""


@pytest.fixture(autouse=True)
def plugins() -> Iterator[PluginHost]:
    """The core and the toy."""
    made = PluginHost([])
    made.register(toy, "toy")
    with using(made):
        yield made


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and a suite, which is also where the commands run."""
    modality = ToyModality()
    export(modality, modality.build(), tmp_path / "model", "A toy.", name="toy")
    (tmp_path / "small.yaml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_eval_shows_figures(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table has every figure with its interval and the number of unscored samples, and says where the files are."""
    assert main(["eval", "model", "small.yaml"]) == 0
    out = capsys.readouterr().out
    assert "small: model" in out
    row = next(line for line in out.splitlines() if line.split()[:1] == ["preference_accuracy"])
    assert row.split() == ["preference_accuracy", "0.5", "[0.2551,", "0.7449]", "4"]  # four ties: z^2 / (4 + z^2) of them unseen
    unscored = next(line for line in out.splitlines() if line.split()[:1] == ["contains_expected"])
    assert unscored.split() == ["contains_expected", "unknown", "0", "3"]
    assert "Incomplete" in out
    assert str(Path("eval/model/small")) in out


def test_eval_as_a_document(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json gives each suite's results.json, its folder and its limit, and nothing else on stdout."""
    assert main(["eval", "model", "small.yaml", "--out", "there", "--set", "generation.max_new_tokens=3", "--json"]) == 0
    out, _ = capsys.readouterr()
    (suite,) = json.loads(out)["suites"]
    written = json.loads((place / "there" / "small" / "results.json").read_text())
    assert suite == {**written, "folder": str(Path("there/small")), "limit": None}
    assert json.loads((place / "there" / "small" / "manifest.json").read_text())["generation"] == {"max_new_tokens": 3}


def test_eval_limited(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A limited evaluation says that it is partial, in the table, the document and the folder's name."""
    assert main(["eval", "model", "small.yaml", "--limit", "2"]) == 0
    assert "Partial: only the first 2 prompts" in capsys.readouterr().out
    assert main(["eval", "model", "small.yaml", "--limit", "2", "--json"]) == 0
    (suite,) = json.loads(capsys.readouterr().out)["suites"]
    assert (suite["limit"], suite["complete"], Path(suite["folder"]).name) == (2, False, "small-limit-2")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["eval", "model", "nosuch"], "No suite is called 'nosuch'"),
        (["eval", "model", "missing.yaml"], "missing.yaml"),
        (["eval", "model", "small.yaml", "--set", "samples=none"], "samples"),
        (["eval", "model", "small.yaml", "--set", "modality.widht=3"], "Did you mean 'width'?"),
        (["eval", "model", "small.yaml", "--base", "model/absent"], "There is no folder model/absent"),
        (["eval", "./model/absent", "small.yaml"], "There is no folder ./model/absent"),
        (["eval", "model"], "SUITE"),
        (["eval", "model", "small.yaml", "--limit", "0"], "--limit"),
        (["generate", "model", "missing.jsonl"], "missing.jsonl"),
    ],
)
def test_mistakes_are_one_message(words: list[str], said: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake ends with 2 and a message that names it, without a traceback."""
    assert main(words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


def test_a_model_that_needs_a_package(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A name on the hub without the text plugin ends with 3 and the line that installs it."""
    from dpoframe.harness import opening

    monkeypatch.setattr(opening.importlib.util, "find_spec", lambda name: None)
    assert main(["eval", "someone/model", "small.yaml"]) == 3
    assert "pip install dpoframe-text" in capsys.readouterr().err


def prompts(place: Path) -> Path:
    """A file of prompts, one with an id and more."""
    rows = [{"id": "first", "prompt": "say a", "kind": "x"}, {"prompt": "say bcd"}]
    (place / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place / "prompts.jsonl"


def test_generate(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON line an answer in the order of the prompts, with what the row said; --json gives one list of the same."""
    prompts(place)
    words = ["generate", "model", "prompts.jsonl", "--set", "max_new_tokens=5", "--set", "samples=2"]
    assert main(words) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["id"], row["sample"]) for row in rows[:2]] == [("first", 0), ("first", 1)]
    assert [row["prompt"] for row in rows] == ["say a", "say a", "say bcd", "say bcd"]
    assert rows[0]["kind"] == "x"
    assert all(row["detail"]["length"] <= 5 and isinstance(row["finished"], bool) for row in rows)
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == rows
    assert main([*words, "--out", "answers.jsonl"]) == 0
    assert [json.loads(line) for line in (place / "answers.jsonl").read_text().splitlines()] == rows
    assert not list(place.glob(".answers*"))


def test_generate_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With --out, what was answered before a command was cut off is not asked again, and the file appears whole."""
    prompts(place)
    asked: list[str] = []
    plain = ToyModality.generate

    def cut(self: ToyModality, model: object, requests: list[object]) -> Iterator[object]:
        for sample in plain(self, model, requests):  # type: ignore[arg-type]
            if len(asked) == 1:
                raise KeyboardInterrupt
            asked.append(sample.id)
            yield sample

    with monkeypatch.context() as patched:
        patched.setattr(ToyModality, "generate", cut)
        assert main(["generate", "model", "prompts.jsonl", "--out", "answers.jsonl"]) == 130
    assert not (place / "answers.jsonl").exists()
    assert main(["generate", "model", "prompts.jsonl", "--out", "answers.jsonl"]) == 0
    assert len((place / "answers.jsonl").read_text().splitlines()) == 2
    assert asked == ["first#0"]


@pytest.mark.parametrize("words", [["samples=0"], ["seed=x"]])
def test_generate_refuses_settings(words: list[str], place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers that cannot be are named."""
    prompts(place)
    assert main(["generate", "model", "prompts.jsonl", *(word for one in words for word in ("--set", one))]) == 2
    assert "must be a whole number" in capsys.readouterr().err
