"""`dpoframe data build --model`: answers are sampled, kept and paired; what is wrong is said before weights are loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from dpoframe import ConfigError, Media, Request, Sample, hookimpl
from dpoframe.checkpoint import export
from dpoframe.cli import main
from dpoframe.harness import EvalFolder
from dpoframe.plugins import PluginHost, using
from dpoframe.testing import toy
from dpoframe.testing.toy import ToyModality

EVALUATORS = '''
from dataclasses import dataclass
from dpoframe import Evaluator, EvaluatorSpec, Media, Scale


@dataclass(frozen=True)
class Wanted(Evaluator):
    """How often an answer has the letter that its prompt's row wants, times a factor."""

    factor: float = 1.0
    spec = EvaluatorSpec("wanted/1", "1", "response", {"count": Scale(0, None)}, "count")

    def score(self, sample):
        return {"count": self.factor * sample.response.count(sample.meta["letter"])}


@dataclass(frozen=True)
class Long(Evaluator):
    """Whether an answer has more than four characters: a failure."""

    spec = EvaluatorSpec("long/1", "1", "response", {"rate": Scale(0, 1, "share", "lower")}, "rate")

    def score(self, sample):
        return {"rate": float(len(sample.response) > 4)}


@dataclass(frozen=True)
class Beaten(Evaluator):
    """Whether an answer is longer than the row's right one."""

    spec = EvaluatorSpec("beaten/1", "1", "rival", {"rate": Scale(0, 1, "share")}, "rate")

    def score(self, sample):
        return {"rate": float(len(sample.response) > len(sample.meta["rival"]))}


@dataclass(frozen=True)
class Likely(Evaluator):
    """Reads log-probabilities."""

    spec = EvaluatorSpec("likely/1", "1", "base_logp", {"logp": Scale()}, "logp")

    def score(self, sample):
        return {"logp": sample.detail["base_logp"]}


@dataclass(frozen=True)
class Size(Evaluator):
    """How large a picture's file is."""

    spec = EvaluatorSpec("size/1", "1", "response", {"bytes": Scale(0, None)}, "bytes")

    def score(self, sample):
        assert isinstance(sample.response, Media)
        content = sample.response.data or sample.response.path.read_bytes()
        return {"bytes": float(len(content))}
'''
ROWS = [
    {"id": f"p{number}", "prompt": f"say {letter}", "letter": letter, "good": letter * 3} for number, letter in enumerate("aeio")
]


@dataclass(frozen=True)
class Greedy(ToyModality):
    """A toy that knows its settings, and answers alike without a temperature."""

    def check_generation(self, settings: Mapping[str, Any]) -> bool:
        """Refuses what it does not know."""
        if unknown := sorted(set(settings) - {"temperature", "max_new_tokens"}):
            raise ConfigError(f"No such setting: {unknown[0]}.")
        return bool(settings.get("temperature", 0.0))


@dataclass(frozen=True)
class Painter(ToyModality):
    """Draws pictures whose size follows from the seed."""

    def generate(self, model: nn.Module, requests: Sequence[Request]) -> Iterator[Sample]:
        """A picture's first bytes and so many others."""
        for request in requests:
            yield Sample(request.id, request.prompt, Media("image", data=b"\x89PNG\r\n\x1a\n" + b"x" * (request.seed % 97)))


class Parts:
    """A plugin with the modalities of the tests and a suite."""

    def __init__(self, suite: Path) -> None:
        self.suite = suite

    @hookimpl
    def dpoframe_modalities(self) -> dict[str, Any]:
        """By the names under which models are exported."""
        return {"greedy": Greedy, "painter": Painter}

    @hookimpl
    def dpoframe_suites(self) -> dict[str, Path]:
        """The suite `letters`."""
        return {"letters": self.suite}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with models, prompts, evaluators and a suite, in which the commands run."""
    for name, modality in (("toy", ToyModality()), ("greedy", Greedy()), ("painter", Painter())):
        export(modality, modality.build(), tmp_path / name, "A toy.", name=name)
    (tmp_path / "mine.py").write_text(EVALUATORS)
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "letters.yaml").write_text(
        "name: letters\nversion: 1\nsystem: 'Be brief.'\nprompts: prompts.jsonl\n"
        "generation: {max_new_tokens: 5, temperature: 1.0}\nsamples: 3\nseed: 7\n"
        "pairs: {name: toy, count: 2}\nevaluators: [response_length, preference_accuracy]\n"
    )
    monkeypatch.chdir(tmp_path)
    host = PluginHost([])
    host.register(toy, "toy")
    host.register(Parts(tmp_path / "letters.yaml"), "parts")
    with using(host):
        yield tmp_path


@pytest.fixture
def build(place: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """`build(evaluator, *words, model=, prompts=)`: exit code, rows written, the --json document, what stderr said."""

    def call(evaluator: str, *words: Any, model: str = "toy", prompts: str = "prompts.jsonl") -> Any:
        out = place / "pairs.jsonl"
        out.unlink(missing_ok=True)
        given = ["--model", model, "--prompts", prompts, "--out", out, "--evaluator", f"./mine.py:{evaluator}", *words, "--json"]
        capsys.readouterr()
        code = main(["data", "build", *map(str, given)])
        said = capsys.readouterr()
        rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
        return code, rows, json.loads(said.out) if said.out.strip() else {}, said.err

    return call


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of all requests that the toy was asked."""
    seen: list[str] = []
    plain = ToyModality.generate

    def noted(modality: ToyModality, model: nn.Module, requests: Sequence[Request]) -> Iterator[Sample]:
        seen.extend(request.id for request in requests)
        return plain(modality, model, requests)

    monkeypatch.setattr(ToyModality, "generate", noted)
    return seen


@pytest.fixture
def weightless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights may be read."""

    def refused(*given: Any) -> Any:
        raise AssertionError("weights were read")

    monkeypatch.setattr(ToyModality, "build", refused)
    monkeypatch.setattr(ToyModality, "load", refused)


def test_answers_are_sampled_and_paired(build: Any, place: Path) -> None:
    """Each prompt's row reaches the evaluator, the best of six answers goes against the worst, and the answers stay."""
    code, rows, told, _ = build("Wanted", "--samples", 6, "--set", "generation.max_new_tokens=20", "--set", "factor=2")
    assert code == 0
    letters = {row["prompt"]: row["letter"] for row in ROWS}
    kept = EvalFolder(place / "pairs.answers").samples()
    assert [row.id for row in kept] == [f"p{number}#{sample}" for number in range(4) for sample in range(6)]
    for row in rows:
        counts = [2 * one.response.count(letters[one.prompt]) for one in kept if one.prompt == row["prompt"]]
        assert (row["score_chosen"], row["score_rejected"]) == (max(counts), min(counts))
        assert row["chosen"].count(letters[row["prompt"]]) * 2 == row["score_chosen"]
        assert (row["chosen_source"], row["rejected_source"]) == ("toy", "toy")
    assert (told["asked"], Path(told["sampled"])) == (4, place / "pairs.answers")
    assert told["pairs"] == len(rows) > 0


def test_sampled_answers_are_stored_ones_afterwards(build: Any, place: Path, asked: list[str]) -> None:
    """The folder is a source, alone and beside others, and the same command with another margin asks the model nothing again."""
    words = ["--samples", 4, "--set", "generation.max_new_tokens=20"]
    _, rows, _, _ = build("Wanted", *words)
    assert len(asked) == 16
    code = main(["data", "build", "pairs.answers", "--out", "again.jsonl", "--evaluator", "./mine.py:Wanted"])
    assert code == 0
    assert [json.loads(line) for line in (place / "again.jsonl").read_text().splitlines()] == rows
    _, every, _, _ = build("Wanted", *words, "--mode", "all")
    assert len(every) > len(rows)
    assert len(asked) == 16
    (place / "more.jsonl").write_text(json.dumps({"prompt": "say a", "response": "a" * 30, "letter": "a"}) + "\n")
    _, rows, told, _ = build("Wanted", *words, "more.jsonl")
    assert rows[0]["chosen"] == "a" * 30
    assert (rows[0]["chosen_source"], rows[0]["rejected_source"], told["answers"]) == ("more", "toy", 17)
    assert len(asked) == 16


def test_a_run_that_was_cut_off_goes_on(build: Any, place: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted after seven answers, it writes the other thirteen, and ends in the pairs of a run that nobody disturbed."""
    words = ["--samples", 5, "--set", "generation.max_new_tokens=20"]
    _, whole, _, _ = build("Wanted", *words, "--answers", "whole")
    del asked[:]
    plain = ToyModality.generate

    def cut(modality: ToyModality, model: nn.Module, requests: Sequence[Request]) -> Iterator[Sample]:
        for number, sample in enumerate(plain(modality, model, requests)):
            if number == 7:
                raise KeyboardInterrupt
            yield sample

    with monkeypatch.context() as patched:
        patched.setattr(ToyModality, "generate", cut)
        code, rows, _, _ = build("Wanted", *words, "--answers", "kept")
    assert (code, rows) == (130, [])
    del asked[:]
    code, rows, _, _ = build("Wanted", *words, "--answers", "kept")
    assert (code, rows) == (0, whole)
    assert len(asked) == 13
    assert (place / "kept" / "samples.jsonl").read_bytes() == (place / "whole" / "samples.jsonl").read_bytes()


def test_the_models_failures_against_the_rows_answer(build: Any, place: Path) -> None:
    """With --mode failed and --reference each answer that is flagged is rejected, and the row's own answer chosen."""
    words = ["--mode", "failed", "--reference", "good", "--samples", 3, "--set", "generation.max_new_tokens=9"]
    code, rows, told, _ = build("Long", *words)
    assert code == 0
    kept = EvalFolder(place / "pairs.answers").samples()
    failed = {(one.prompt, one.response) for one in kept if len(one.response) > 4}
    good = {row["prompt"]: row["good"] for row in ROWS}
    assert {(row["prompt"], row["rejected"]) for row in rows} == failed
    assert all(row["chosen"] == good[row["prompt"]] and row["chosen_source"] == "reference" for row in rows)
    assert told["pairs"] == len(failed) > 0


def test_one_answer_a_prompt_suffices_beside_a_right_one(build: Any) -> None:
    """--samples 1 makes pairs with the row's answer; a right answer that is flagged itself is never chosen."""
    _, rows, _, _ = build("Long", "--mode", "failed", "--reference", "good", "--samples", 1, "--set", "generation.max_new_tokens=9")
    assert {row["chosen_source"] for row in rows} == {"reference"}
    code, rows, _, said = build("Wanted", "--from-reference", "--reference", "letter", "--samples", 1, "--margin", 50)
    assert (code, rows) == (2, [])
    assert "did not differ by more than the margin" in said


def test_a_suite_is_asked_as_its_evaluations_ask(build: Any, place: Path, asked: list[str]) -> None:
    """Of a suite come its prompts as it frames them, settings, samples and seed, unless others are given; no evaluators."""
    code, rows, told, _ = build("Wanted", prompts="letters")
    assert (code, len(asked), told["asked"]) == (0, 12, 4)
    assert rows[0]["prompt"].startswith("Be brief.\n\nsay ")
    manifest = EvalFolder(place / "pairs.answers").document("manifest.json")
    assert (manifest["suite"], manifest["samples"], manifest["seed"], manifest["evaluators"]) == ("letters", 3, 7, {})
    assert manifest["generation"] == {"max_new_tokens": 5, "temperature": 1.0}
    _, _, _, _ = build("Wanted", "--samples", 2, "--seed", 8, "--set", "generation.temperature=0.5", prompts="letters.yaml")
    manifest = EvalFolder(place / "pairs.answers").document("manifest.json")
    assert (manifest["samples"], manifest["seed"]) == (2, 8)
    assert manifest["generation"] == {"max_new_tokens": 5, "temperature": 0.5}


def test_a_rows_answer_is_the_rival(build: Any, place: Path) -> None:
    """Evaluators that compare with a rival get the row's `reference`."""
    rows = [{"prompt": row["prompt"], "reference": "abcd"} for row in ROWS]
    (place / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, made, _, _ = build("Beaten", "--samples", 6)
    assert code == 0
    assert all(len(row["chosen"]) > 4 >= len(row["rejected"]) for row in made)


def test_pictures_are_sampled(build: Any, place: Path) -> None:
    """Pictures that a model draws are paired and copied beside the pairs; a row's right picture is found beside the prompts."""
    code, rows, _, _ = build("Size", "--samples", 4, model="painter")
    assert (code, len(rows)) == (0, 4)
    for row in rows:
        chosen, rejected = (place / row[side]["path"] for side in ("chosen", "rejected"))
        assert chosen.parent == place / "blobs"
        assert chosen.stat().st_size == row["score_chosen"] > rejected.stat().st_size == row["score_rejected"]
    (place / "right.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"y" * 500)
    given = [{"prompt": row["prompt"], "right": {"media": "image", "path": "right.png"}} for row in ROWS]
    (place / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    code, rows, _, _ = build("Size", "--samples", 1, "--reference", "right", "--answers", "drawn", model="painter")
    assert (code, len(rows)) == (0, 4)
    assert all((place / row["chosen"]["path"]).read_bytes().endswith(b"y" * 500) for row in rows)


@pytest.mark.parametrize(
    ("evaluator", "words", "changes", "said"),
    [
        ("Wanted", ("--samples", 1), {}, "one answer a prompt makes no pair"),
        ("Wanted", ("--samples", 4), {"model": "greedy"}, "give the same one each time"),
        ("Wanted", ("--set", "generation.temprature=1"), {"model": "greedy"}, "No such setting: temprature"),
        ("Wanted", ("--set", "factr=1"), {}, "Did you mean 'factor'?"),
        ("Wanted", ("--set", "modality.wdth=3"), {}, "wdth"),
        ("Wanted", (), {"model": "eval/none"}, "There is no folder"),
        ("Wanted", (), {"prompts": "absent.jsonl"}, "absent.jsonl"),
        ("Wanted", (), {"prompts": "leters"}, "Did you mean 'letters'?"),
        ("Wanted", (), {"prompts": "empty.jsonl"}, "a prompt row needs a key `prompt`"),
        ("Wanted", (), {"prompts": "pairs.yaml"}, "has no prompts"),
        ("Wanted", ("--media", "image"), {}, "no SOURCE is given"),
        ("Wanted", ("absent.jsonl",), {}, "does not exist"),
        ("Wanted", ("--reference", "best"), {}, "No prompt of prompts has a right answer under 'best'"),
        (
            "Wanted",
            ("--reference", "number"),
            {"prompts": "odd.jsonl"},
            "'number' must be text, chat messages or a file, found int 7",
        ),
        ("Wanted", ("--answers", "eval"), {}, "whose figures would be lost"),
        ("Wanted", ("--answers", "prompts.jsonl", "prompts.jsonl"), {}, "Leave the SOURCE out"),
        ("Wanted", ("--failed-at", 1), {}, "--mode failed"),
        ("Likely", (), {}, "needs base_logp"),
    ],
)
def test_faults_are_told_before_weights_are_read(
    evaluator: str, words: tuple[Any, ...], changes: dict[str, str], said: str, build: Any, place: Path, weightless: None
) -> None:
    """Every mistake is one message and exit 2, no weights are read, and nothing is written."""
    (place / "empty.jsonl").write_text('{"question": "x"}\n')
    (place / "odd.jsonl").write_text('{"prompt": "say a", "number": 7}\n')
    (place / "pairs.yaml").write_text("name: pairs\nversion: 1\npairs: {name: toy, count: 2}\nevaluators: [preference_accuracy]\n")
    (place / "eval").mkdir()
    (place / "eval" / "manifest.json").write_text('{"suite": "chat", "order": ["finished"]}')
    before = sorted(place.iterdir())
    code, rows, _, told = build(evaluator, *words, **changes)
    assert (code, rows) == (2, [])
    assert said in told
    assert "Traceback" not in told
    assert sorted(path for path in place.iterdir() if path.name != "__pycache__") == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prompts", "prompts.jsonl"], "--prompts belongs to --model"),
        (["--samples", "3", "--seed", "1"], "--samples, --seed belongs to --model"),
        (["--model", "toy"], "--model answers --prompts"),
        ([], "No answers are named"),
    ],
)
def test_options_that_belong_together(words: list[str], said: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Options that say how to sample need a model, a model needs prompts, and without a model there must be a source."""
    assert main(["data", "build", "--out", "pairs.jsonl", "--evaluator", "./mine.py:Wanted", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_suites_prompts_are_set_as_for_an_evaluation(build: Any, place: Path, asked: list[str]) -> None:
    """--set prompts.KEY says where a suite's prompts are, and how many; a file of rows has no such keys, which is said."""
    (place / "letters.yaml").write_text(
        (place / "letters.yaml").read_text().replace("prompts: prompts.jsonl", "prompts: {path: x.jsonl}")
    )
    words = ("--set", "prompts.path=prompts.jsonl", "--set", "prompts.limit=2")
    _, _, told, _ = build("Wanted", *words, prompts="letters")
    assert (sorted({name.partition("#")[0] for name in asked}), told["asked"]) == (["p0", "p1"], 2)
    code, _, _, said = build("Wanted", "--set", "prompts.limit=2")
    assert (code, "prompts.jsonl is a file of rows" in said) == (2, True)
