"""`dpoframe data build`, cut off while it scores: it goes on where it stood, and asks nothing twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpoframe.checkpoint import export
from dpoframe.cli import main
from dpoframe.harness.storage.store import claimed
from dpoframe.plugins import PluginHost, using
from dpoframe.testing import toy
from dpoframe.testing.toy import ToyModality

# What is asked is written down; a file says at which question something happens.
EVALUATORS = '''
import os, signal, time
from dataclasses import dataclass
from pathlib import Path
from dpoframe import Evaluator, EvaluatorSpec, Scale, UnscoredError

PLACE = Path(__file__).parent


@dataclass(frozen=True)
class Slow(Evaluator):
    """How long an answer is, or its first number of letters."""

    most: int = 100
    spec = EvaluatorSpec("slow/1", "1", "response", {"length": Scale(0, None)}, "length")

    def score(self, sample):
        asked = PLACE / "asked.txt"
        with asked.open("a") as file:
            file.write(f"{sample.id} {sample.meta.get('topic', '')}\\n")
        count = len(asked.read_text().splitlines())
        for name in ("cut", "killed", "down"):
            if (PLACE / name).exists() and count > int((PLACE / name).read_text()):
                if name == "cut":
                    raise KeyboardInterrupt
                if name == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise UnscoredError("the service is down", again=True)
        if (PLACE / "killed").exists():
            time.sleep(0.4)
        return {"length": float(min(self.most, len(sample.response)))}
'''
ROWS = [{"id": f"r{row}", "prompt": f"say {row}", "responses": ["x" * (1 + (row + n) % 5) for n in range(4)]} for row in range(5)]
"""20 answers."""


class Builder:
    """Runs the command on the rows, and knows what the evaluator was asked."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "mine.py").write_text(EVALUATORS)
        self.rows(ROWS)

    def rows(self, rows: list[dict[str, Any]]) -> None:
        """Writes the source."""
        (self.place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def at(self, what: str, count: int | None) -> None:
        """From which question on something happens; None for never."""
        (self.place / what).unlink(missing_ok=True) if count is None else (self.place / what).write_text(str(count))

    def command(self, *words: Any) -> list[str]:
        """The command line."""
        return [str(word) for word in ("data", "build", *words, "--out", "pairs.jsonl", "--evaluator", "./mine.py:Slow", "--force")]

    def __call__(self, *words: Any, source: str = "rows.jsonl") -> tuple[int, list[Any], list[str]]:
        """Exit code, pairs, and the ids that were asked about."""
        asked, out = self.place / "asked.txt", self.place / "pairs.jsonl"
        asked.unlink(missing_ok=True)
        out.unlink(missing_ok=True)
        code = main(self.command(*([source] if source else []), *words))
        pairs = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
        return code, pairs, asked.read_text().splitlines() if asked.exists() else []


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Builder]:
    """The command in a folder of its own, with the toy that answers."""
    monkeypatch.chdir(tmp_path)
    export(ToyModality(), ToyModality().build(), tmp_path / "toy", "A toy.", name="toy")
    host = PluginHost([])
    host.register(toy, "toy")
    with using(host):
        yield Builder(tmp_path)


SAMPLED = ("--model", "toy", "--prompts", "rows.jsonl", "--samples", 4, "--set", "generation.max_new_tokens=20")


@pytest.mark.parametrize(("words", "source"), [((), "rows.jsonl"), (SAMPLED, "")], ids=["stored", "sampled"])
def test_scoring_goes_on(build: Builder, words: tuple[Any, ...], source: str) -> None:
    """Interrupted after seven verdicts, the same command asks for the others, and ends in the pairs of an undisturbed run."""
    _, whole, every = build(*words, *(("--answers", "whole") if words else ()), source=source)
    build.at("cut", 7)
    code, pairs, asked = build(*words, source=source)
    assert (code, pairs, len(asked)) == (130, [], 8)
    build.at("cut", None)
    code, pairs, asked = build(*words, source=source)
    assert (code, asked) == (0, every[7:])
    assert pairs == whole
    assert len(whole) > 0


def test_verdicts_on_stored_answers_go_with_the_pairs(build: Builder) -> None:
    """Beside --out a folder of verdicts lies only until the pairs are written; what else lies in it stays."""
    before = sorted(path.name for path in build.place.iterdir())
    build.at("cut", 3)
    build()
    assert (build.place / "pairs.verdicts" / "store").is_dir()
    build.at("cut", None)
    build()
    left = {path.name for path in build.place.iterdir()} - {"__pycache__"}
    assert left == {*before, "asked.txt", "pairs.jsonl"} - {"__pycache__"}
    (build.place / "pairs.verdicts").mkdir()
    (build.place / "pairs.verdicts" / "mine.txt").write_text("kept")
    build()
    assert [path.name for path in (build.place / "pairs.verdicts").iterdir()] == ["mine.txt"]


def test_verdicts_on_sampled_answers_stay_with_them(build: Builder) -> None:
    """Another margin asks for no verdict again; another key of the evaluator asks for all."""
    _, pairs, asked = build(*SAMPLED, source="")
    assert len(asked) > 10
    assert build(*SAMPLED, "--margin", 1, source="")[2] == []
    code, again, asked_again = build(*SAMPLED, "--set", "most=3", source="")
    assert (code, asked_again) == (0, asked)
    assert again != pairs
    assert build(*SAMPLED, source="")[1:] == (pairs, [])


def test_answers_that_have_changed_are_asked_about(build: Builder) -> None:
    """Of a source that was changed meanwhile, what the evaluator sees anew is scored anew, and nothing else."""
    build.at("cut", 12)
    build()
    build.at("cut", None)
    changed = [{**row, "topic": "tea"} if number == 1 else row for number, row in enumerate(ROWS)]
    build.rows(changed)
    _, _, asked = build()
    assert [line for line in asked if line.endswith("tea")] == asked[:4]
    assert len(asked) == 4 + 8


def test_trouble_that_is_not_the_samples_is_asked_again(build: Builder) -> None:
    """Answers that could not be scored because a service was down are asked about in the next run."""
    _, whole, _ = build()
    build.at("down", 10)
    code, _, _ = build("--margin", 50)
    assert code == 2
    build.at("down", None)
    code, pairs, asked = build()
    assert (code, len(asked)) == (0, 10)
    assert pairs == whole


def test_two_commands_do_not_share_verdicts(build: Builder, capsys: pytest.CaptureFixture[str]) -> None:
    """While another process scores for the same file, the command ends with 2 and says so."""
    with claimed(build.place / "pairs.verdicts"):
        code, pairs, asked = build()
    assert (code, pairs, asked) == (2, [], [])
    assert "Another process" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
def test_a_kill_costs_a_second(build: Builder) -> None:
    """A process that is killed at its twelfth answer has lost no more than what a second takes of them."""
    build.at("killed", 11)
    environment = {**os.environ, "DPOFRAME_DISABLE_PLUGINS": "code,diffusion,evals,text", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dpoframe", *build.command("rows.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, cwd=build.place)
    assert done.returncode == -signal.SIGKILL, done.stderr
    build.at("killed", None)
    code, _, asked = build()
    assert code == 0
    assert 9 <= len(asked) <= 13
