"""The reporters that come with the core."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dpoframe import Reporter, ReporterSession, RunInfo
from dpoframe.builtin.lightning_loggers import Csv, Tensorboard
from dpoframe.builtin.wandb import Wandb, answers, chosen_mode
from dpoframe.train.reporting import Reporters

ROWS = [
    {"step": 0, "loss": 0.69, "rewards/margins": 0.0, "tokens": 10},
    {"step": 1, "stage": "validation", "loss": 0.5, "rewards/margins": 0.4},
    {"step": 1, "loss": 0.6, "rewards/margins": 0.1, "tokens": 20},
]


@pytest.fixture
def info(tmp_path: Path) -> RunInfo:
    """A run with a masked secret."""
    return RunInfo(tmp_path, "trial", {"seed": 3, "modality": {"name": "toy", "hub_token": "***"}}, {"python": "3.11"})


@pytest.fixture
def wandb_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B writes into the test's folder alone, and sees no account."""
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name.lower()))
    for name in ("WANDB_DIR", "WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def report(reporter: Reporter, info: RunInfo) -> None:
    """A whole run's reporting."""
    session = reporter.start(info)
    for row in ROWS:
        session.log(row)
    session.table("answers", ["prompt", "answer"], [["hi", "hello"], ["bye", "see you"]])
    model = info.folder / "model"
    model.mkdir()
    (model / "weights.txt").write_text("1 2 3")
    session.artifact("model", "my model", model)
    session.summary({"accuracy": 0.75})
    session.finish("finished")


@pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb")  # its own use of pydantic
def test_wandb_writes_offline_what_its_own_reader_reads(info: RunInfo, wandb_folders: None) -> None:
    """Config, rows under their own step, table, artifact and summary are in the run's file; the secret is not."""
    pytest.importorskip("wandb")
    report(Wandb(project="trials", mode="offline", tags=("a",)), info)
    (run,) = (info.folder / "wandb").glob("offline-run-*")
    words = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(run)]
    read = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
    records = [json.loads(line) for line in read.splitlines()]
    (head,) = (record["run"] for record in records if record["type"] == "run")
    assert head["config"]["update"]["seed"] == 3
    assert head["config"]["update"]["modality"]["hub_token"] == "***"
    assert head["project"] == "trials"
    items = [record["history"]["item"] for record in records if record["type"] == "history"]
    assert [item["step"] for item in items if "train/loss" in item] == [0, 1]
    assert [item["validation/loss"] for item in items if "validation/loss" in item] == [0.5]
    assert any(item.get("answers._type") == "table-file" for item in items)
    assert '"step_metric":"step"' in read
    assert "my-model" in read
    assert '"accuracy":0.75' in read


def test_wandb_is_offline_without_a_key_or_a_network(wandb_folders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decided before the start, within seconds; an explicit mode and WANDB_MODE win."""
    assert chosen_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    before = time.monotonic()
    assert chosen_mode("auto") == "offline"
    assert not answers("http://127.0.0.1:9")
    assert time.monotonic() - before < 10
    assert chosen_mode("online") == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert chosen_mode("auto") == "disabled"


def test_csv_holds_the_rows(info: RunInfo) -> None:
    """Training and validation figures stand in columns of their own, by step."""
    report(Csv(), info)
    with (info.folder / "csv" / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["train/loss"] for row in table if row["train/loss"]] == ["0.69", "0.6"]
    assert [row["validation/loss"] for row in table if row["validation/loss"]] == ["0.5"]


def test_a_resumed_run_keeps_its_csv_rows(info: RunInfo) -> None:
    """The file of a run that goes on begins with the rows of metrics.jsonl, and an evaluation does not touch it."""
    first, second = ROWS[0], ROWS[2]
    (info.folder / "metrics.jsonl").write_text(json.dumps(first) + "\n" + '{"step": ')
    for job, row in (("train", first), ("train", second), ("eval", {"step": 2, "stage": "eval/small", "finished": 1.0})):
        session = Csv().start(replace(info, job=job))
        session.log(row)
        session.finish("finished")
    with (info.folder / "csv" / "metrics.csv").open() as file:
        assert [row["train/loss"] for row in csv.DictReader(file)] == ["0.69", "0.6"]
    with (info.folder / "csv" / "eval" / "metrics.csv").open() as file:
        assert [row["eval/small/finished"] for row in csv.DictReader(file)] == ["1.0"]


def test_tensorboard_holds_the_rows(info: RunInfo) -> None:
    """The event file has the scalars at their steps."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    report(Tensorboard(), info)
    events = EventAccumulator(str(info.folder / "tensorboard"))
    events.Reload()
    assert [(event.step, round(event.value, 4)) for event in events.Scalars("train/loss")] == [(0, 0.69), (1, 0.6)]


@dataclass(frozen=True)
class Breaking(Reporter):
    """Fails where it is told to."""

    where: str = "start"

    def start(self, run: RunInfo) -> ReporterSession:
        """Fails, or opens a session that will."""
        if self.where == "start":
            raise OSError("no line")
        return BreakingSession()


class BreakingSession(ReporterSession):
    """Fails at every row."""

    def log(self, row: Any) -> None:
        """Fails."""
        raise ValueError("bad row")


class Counting(ReporterSession):
    """Counts rows."""

    def __init__(self) -> None:
        self.rows = 0

    def log(self, row: Any) -> None:
        """Counts."""
        self.rows += 1


@pytest.mark.parametrize(("where", "message"), [("start", "OSError: no line"), ("log", "ValueError: bad row")])
def test_a_reporter_that_raises_is_told_of_once_and_left_out(where: str, message: str, info: RunInfo) -> None:
    """One warning with its name and error; the others go on."""
    counting = Counting()

    def report_all() -> None:
        live = Reporters.open([("breaking", Breaking(where))], info)
        live.sessions["counting"] = counting
        for row in ROWS:
            live.log(row)
        live.finish("finished")

    with pytest.warns(RuntimeWarning, match=message) as caught:
        report_all()
    assert len(caught) == 1
    assert counting.rows == len(ROWS)
    assert "'breaking'" in str(caught[0].message)
