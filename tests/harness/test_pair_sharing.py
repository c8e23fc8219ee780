"""Several processes share `dpoframe data build`, and answers and pairs are those of one, byte for byte."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from dpoframe.checkpoint import export
from dpoframe.cli import main, output, story
from dpoframe.errors import ConfigError
from dpoframe.harness.pairing import build as building
from dpoframe.harness.pairing.build import Built, build_pairs
from dpoframe.harness.pairing.candidates import gather
from dpoframe.harness.pairing.sampling import Sampling
from dpoframe.harness.sharding import ALONE, Ranks, launched
from dpoframe.harness.storage.folder import AGAIN
from dpoframe.harness.storage.store import file_of, opened
from dpoframe.plugins import host

HERE = Path(__file__).parent
GROUPED = f"{HERE / 'grouped.py'}:Grouped"
# Which process asks what is written down, batch by batch.
EVALUATORS = '''
import os, threading
from dataclasses import dataclass
from pathlib import Path
from dpoframe import Evaluator, EvaluatorSpec, Scale, as_text

PLACE = Path(__file__).parent


def vowels(sample):
    return {"count": float(sum(letter in "aeiou" for letter in as_text(sample.response)))}


@dataclass(frozen=True)
class Vowels(Evaluator):
    """How many vowels an answer has."""

    spec = EvaluatorSpec("vowels/1", "1", "response", {"count": Scale(0, None)}, "count")

    def score(self, sample):
        with (PLACE / "asked.txt").open("a") as file:
            file.write(f"{sample.id}\\n")
        return vowels(sample)


@dataclass(frozen=True)
class Batched(Evaluator):
    """The same, of five answers at a time; the first one's share of the sum is a trace of the batch."""

    spec = EvaluatorSpec("batched/1", "1", "response", {"count": Scale(0, None)}, "count")

    def batch_size(self):
        return 5

    def score(self, sample):
        raise AssertionError("batches are asked about")

    def score_batch(self, samples):
        trace = sum(len(as_text(sample.response)) for sample in samples) * 1e-3
        return [{"count": vowels(sample)["count"] + trace} for sample in samples]
'''


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model whose answers name their batch, prompts and evaluators, in which the commands run."""
    modality = host().get("modality", GROUPED)()
    export(modality, modality.build(), tmp_path / "model", "A toy.", name=GROUPED)
    (tmp_path / "mine.py").write_text(EVALUATORS)
    for name, count in (("prompts", 9), ("few", 2)):
        rows = [{"id": f"p{number}", "prompt": f"say {chr(97 + number)} {number}"} for number in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPOFRAME_TRUST_FILES", str(HERE))
    return tmp_path


@pytest.fixture
def shared(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Built | None]]:
    """`shared(count, out, evaluator, ...)`: as many threads as there would be processes; what each returns."""

    def run(count: int, out: str, evaluator: str, sources: Any = (), prompts: str = "prompts.jsonl") -> list[Built | None]:
        meeting, own = threading.Barrier(count), threading.local()

        @contextlib.contextmanager
        def among(devices: int = 1) -> Iterator[tuple[Ranks, torch.device]]:
            wait: Any = lambda: meeting.wait(60)  # noqa: E731
            yield (Ranks(own.rank, count, wait) if count > 1 else ALONE), torch.device("cpu")

        def work(rank: int) -> Built | None:
            own.rank = rank
            asked = None if sources else Sampling("model", prompts, samples=4)
            settings = [] if sources else ["generation.max_new_tokens=8", "generation.temperature=1.0"]
            return build_pairs(sources, out, f"./mine.py:{evaluator}", changes=settings, sampling=asked, devices=count)

        monkeypatch.setattr(building, "launched", among)
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(work, range(count)))

    return run


@pytest.mark.parametrize("evaluator", ["Vowels", "Batched"])
@pytest.mark.parametrize(("count", "prompts"), [(2, "prompts.jsonl"), (3, "prompts.jsonl"), (3, "few.jsonl")])
def test_answers_and_pairs_are_those_of_one(count: int, prompts: str, evaluator: str, shared: Any, place: Path) -> None:
    """Also where there are more processes than prompts, and where answers and scores depend on what shares their batch."""
    (one,) = shared(1, "one.jsonl", evaluator, prompts=prompts)
    first, *others = shared(count, "many.jsonl", evaluator, prompts=prompts)
    assert (place / "many.jsonl").read_bytes() == (place / "one.jsonl").read_bytes()
    for name in ("samples.jsonl", "samples.parquet", "manifest.json"):
        assert (place / "many.answers" / name).read_bytes() == (place / "one.answers" / name).read_bytes()
    assert others == [None] * (count - 1)
    assert (first.pairs, first.answers, first.unscored, first.tied) == (one.pairs, one.answers, one.unscored, one.tied)
    assert one.pairs > 0


def test_each_answer_is_asked_about_once(shared: Any, place: Path) -> None:
    """Stored answers are shared out as well; no two processes score the same, and verdicts are gone when pairs are written."""
    answers = [{"id": f"r{row}", "prompt": f"say {row % 4}", "response": "ae" * (row % 5) + "x" * row} for row in range(20)]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    shared(1, "one.jsonl", "Vowels", [place / "rows.jsonl"])
    alone = sorted((place / "asked.txt").read_text().splitlines())
    (place / "asked.txt").unlink()
    shared(3, "many.jsonl", "Vowels", [place / "rows.jsonl"])
    assert sorted((place / "asked.txt").read_text().splitlines()) == alone
    assert (place / "many.jsonl").read_bytes() == (place / "one.jsonl").read_bytes()
    assert not (place / "many.verdicts").exists()


def test_no_process_but_the_first_holds_every_answer(place: Path) -> None:
    """Of a source that all read, the others keep their share alone; together they score every answer once."""
    rows = [{"prompt": f"say {row % 6}", "response": "a" * (row + 1)} for row in range(20)]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [gather([place / "rows.jsonl"], ranks=Ranks(rank, 3), together=2) for rank in range(3)]
    held = [sum(map(len, one.prompts.values())) for one in found]
    assert held == [20, len(found[1].mine), len(found[2].mine)] == [20, 6, 6]
    assert sorted(len(one.sample.response) for some in found for one in some.mine) == list(range(1, 21))


def test_what_was_kept_is_not_done_again(shared: Any, place: Path) -> None:
    """Another number of processes goes on with the answers and verdicts of those before: nothing is asked twice."""
    shared(2, "one.jsonl", "Vowels")
    (place / "asked.txt").unlink()
    (place / "one.jsonl").rename(place / "first.jsonl")
    stored = {rank: samples(place / "one.answers", rank) for rank in (0, 1)}
    shared(3, "one.jsonl", "Vowels")
    assert not (place / "asked.txt").exists()
    assert (place / "one.jsonl").read_bytes() == (place / "first.jsonl").read_bytes()
    assert samples(place / "one.answers", 0) == stored[0] == 36
    assert (stored[1], samples(place / "one.answers", 2)) == (16, 0)


def samples(folder: Path, rank: int) -> int:
    """How many answers a process's file holds."""
    if not file_of(folder, rank).is_file():
        return 0
    with contextlib.closing(sqlite3.connect(file_of(folder, rank))) as database:
        return int(database.execute("SELECT count(*) FROM samples").fetchone()[0])


def test_every_item_has_one_process() -> None:
    """Each number falls to exactly one of the processes, and those that belong together are not parted."""
    for count in (1, 2, 3, 7):
        for together in (0, 1, 4):
            owners = [[rank for rank in range(count) if Ranks(rank, count).has(number, together)] for number in range(50)]
            assert all(len(one) == 1 for one in owners)
            size = max(1, together)
            assert all(owners[start : start + size] == [owners[start]] * size for start in range(0, 50 - size, size))


def test_a_verdict_that_another_process_got_since(tmp_path: Path) -> None:
    """A verdict that was to be asked for again gives way to another process's; any other verdict stays."""
    down, one, two = ({"values": None, "reason": f"down {AGAIN}"}, *({"values": {"a": n}, "reason": ""} for n in (1.0, 2.0)))
    (tmp_path / "store").mkdir()
    with opened(tmp_path) as first, opened(tmp_path, 1) as second:
        first.judge("e", {"healed": down, "kept": one, "both": one})
        second.judge("e", {"healed": two, "kept": down, "both": two, "new": two})
        first.take_in([file_of(tmp_path, 1)])
        assert first.judged("e", ["healed", "kept", "both", "new"]) == {"healed": two, "kept": one, "both": one, "new": two}


@pytest.mark.parametrize("devices", [0, -1])
def test_no_process_at_all(devices: int) -> None:
    """A number below 1 is told before anything is started."""
    with pytest.raises(ConfigError, match="at least 1"), launched(devices):
        pytest.fail("it began")


def test_one_bar_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the first process alone shows how far the whole is."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert output.other_rank()
    with story.Story({"score": 1.0}) as shown:
        assert shown.bar is None


def started(place: Path, *words: str, **more: str) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    line = [sys.executable, "-m", "dpoframe", "data", "build", *words]
    given = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    return subprocess.Popen(line, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=given)


SAMPLED = ("--model", "model", "--prompts", "prompts.jsonl", "--samples", "4", "--set", "generation.max_new_tokens=8")
BY_VOWELS = ("--set", "generation.temperature=1.0", "--evaluator", "./mine.py:Vowels")


@pytest.mark.slow
def test_two_processes(place: Path) -> None:
    """`--devices 2` writes what one process writes, with one document on stdout."""
    assert main(["data", "build", *SAMPLED, *BY_VOWELS, "--out", "one.jsonl"]) == 0
    process = started(place, *SAMPLED, *BY_VOWELS, "--out", "two.jsonl", "--devices", "2", "--json")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert json.loads(out)["answers"] == 36
    assert (place / "two.jsonl").read_bytes() == (place / "one.jsonl").read_bytes()
    assert (place / "two.answers" / "samples.jsonl").read_bytes() == (place / "one.answers" / "samples.jsonl").read_bytes()
    assert samples(place / "two.answers", 1) == 16


@pytest.mark.slow
def test_a_killed_process(place: Path) -> None:
    """The first says what became of the other and ends; the same command goes on, and ends in the pairs of one process."""
    slow = ("--set", "modality.pause=0.3")
    assert main(["data", "build", *SAMPLED, *BY_VOWELS, "--out", "one.jsonl"]) == 0
    process = started(place, *SAMPLED, *BY_VOWELS, *slow, "--out", "two.jsonl", "--devices", "2")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not file_of(place / "two.answers", 1).is_file():
        time.sleep(0.05)
    time.sleep(1)
    (other,) = children(process.pid)
    os.kill(other, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (3, ""), err
    assert "Process 1 was ended from outside (SIGKILL)" in err
    assert "Traceback" not in err
    process = started(place, *SAMPLED, *BY_VOWELS, "--out", "two.jsonl", "--devices", "2")
    assert process.wait(240) == 0, process.communicate()
    process.communicate()
    assert (place / "two.jsonl").read_bytes() == (place / "one.jsonl").read_bytes()


def children(process: int) -> list[int]:
    """Processes that this one has started."""
    return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.slow
def test_a_source_that_cannot_be_read(place: Path) -> None:
    """The first process says what is wrong with it, the other only that it ends."""
    (place / "rows.jsonl").write_text("{bad\n")
    process = started(place, "rows.jsonl", "--evaluator", "./mine.py:Vowels", "--out", "two.jsonl", "--devices", "2")
    _, err = process.communicate(timeout=240)
    assert process.returncode == 2, err
    assert err.count("No answer was found in rows.jsonl") == 1
    assert not any(part in err for part in ("internal", "Traceback", "Connection closed"))
