"""The reporters that come with the core."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dpoframe import Reporter, ReporterSession, RunInfo
from dpoframe.builtin.lightning_loggers import Csv, Tensorboard
from dpoframe.builtin.wandb import START_SECONDS, Wandb, WandbSession, answers, chosen_mode, version_of
from dpoframe.train.reporting import Reporters
from dpoframe.types import Media

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


def inspected(folder: Path) -> tuple[list[dict[str, Any]], str]:
    """The records of the one offline run in a folder, as W&B's own reader gives them."""
    (run,) = (folder / "wandb").glob("offline-run-*")
    words = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(run)]
    read = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
    return [json.loads(line) for line in read.splitlines()], read


@pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb")  # its own use of pydantic
def test_wandb_writes_offline_what_its_own_reader_reads(info: RunInfo, wandb_folders: None) -> None:
    """Config, rows under their own step, table, artifact and summary are in the run's file; the secret is not."""
    pytest.importorskip("wandb")
    report(Wandb(project="trials", mode="offline", tags=("a",)), info)
    records, read = inspected(info.folder)
    (head,) = (record["run"] for record in records if record["type"] == "run")
    assert head["config"]["update"]["seed"] == 3
    assert head["config"]["update"]["modality"]["hub_token"] == "***"
    assert head["project"] == "trials"
    items = [record["history"]["item"] for record in records if record["type"] == "history"]
    assert [item["step"] for item in items if "train/loss" in item] == [0, 1]
    assert [item["validation/loss"] for item in items if "validation/loss" in item] == [0.5]
    assert any(item.get("answers._type") == "table-file" for item in items)
    metrics = [record["metric"] for record in records if record["type"] == "metric"]
    assert any(one.get("glob_name") == "eval/*" and one.get("step_metric") == "step" for one in metrics), metrics
    assert '"step_metric":"step"' in read
    assert "my-model" in read
    assert '"accuracy":0.75' in read


@pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb")  # its own use of pydantic
def test_wandb_evaluation_is_a_run_of_the_same_group(info: RunInfo, wandb_folders: None) -> None:
    """Its job is eval, its figures have their own step, interval and n, and its one artifact names the version of the model."""
    pytest.importorskip("wandb")
    for part in ("eval/small/store", "base/eval/small"):
        (info.folder / part).mkdir(parents=True)
    for file in ("report.html", "eval/small/results.json", "eval/small/store/rank-0.sqlite", "base/eval/small/results.json"):
        (info.folder / file).write_text(file)
    session = Wandb(mode="offline").start(replace(info, job="eval"))
    for step, value in ((12, 0.75), (0, 0.5)):  # out of order, as the base's may come after
        session.log({"step": step, "stage": "eval/small", "finished": value})
    session.table("samples/small", ["prompt"], [[f"p{number}"] for number in range(ROWS_GIVEN)])
    session.summary({"eval/small/finished": {"value": 0.75, "ci_low": 0.5, "ci_high": 0.9, "n": 40}})
    session.artifact("report", "trial-report", info.folder / "report.html")
    session.finish("finished")
    records, read = inspected(info.folder)
    (head,) = (record["run"] for record in records if record["type"] == "run")
    assert (head["job_type"], head["run_group"]) == ("eval", "trial")
    model = f"trial:{version_of(info)}"
    assert head["config"]["update"]["model_artifact"] == model
    items = [record["history"]["item"] for record in records if record["type"] == "history"]
    assert [(item["step"], item["eval/small/finished"]) for item in items if "eval/small/finished" in item] == [
        (12, 0.75),
        (0, 0.5),
    ]
    assert [item["samples/small.nrows"] for item in items if "samples/small.nrows" in item] == [500]
    for part, value in (("value", 0.75), ("ci_low", 0.5), ("ci_high", 0.9), ("n", 40)):
        assert f'"eval/small/finished/{part}":{value}' in read
    (artifact,) = (record["artifact"] for record in records if record["type"] == "artifact" and "trial-report" in str(record))
    assert artifact["type"] == "evaluation"
    assert model in json.dumps(artifact)
    names = sorted(one["path"] for one in artifact["manifest"]["contents"])
    assert names == ["base/eval/small/results.json", "eval/small/results.json", "report.html"]


ROWS_GIVEN = 800


@pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb")  # its own use of pydantic
def test_wandb_shows_pictures(info: RunInfo, wandb_folders: None) -> None:
    """A column of pictures is shown as such; where one is gone, or texts stand between, all are named, without their folder."""
    pytest.importorskip("wandb")
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (4, 4), "red").save(info.folder / "red.png")
    (info.folder / "broken.png").write_text("none")
    red, broken, gone = (Media("image", path=info.folder / name) for name in ("red.png", "broken.png", "gone.png"))
    sound = Media("audio", data=b"x")
    session = Wandb(mode="offline").start(info)
    session.table(
        "answers", ["prompt", "base", "aligned", "score"], [["a", red, red, 1.0], ["b", red, broken, None], ["c", None, "text", 2]]
    )
    session.table("bytes", ["y"], [[Media("image", data=(info.folder / "red.png").read_bytes())]])
    session.table("many", ["z"], [[red]] * 140)
    session.table("odd", ["x"], [[gone], [sound], [True], [1]])
    session.finish("finished")
    # Tables with media are kept whole as artifacts, which wait in the staging folder.
    staged = [file.read_bytes() for file in sorted((info.folder / "data" / "artifacts" / "staging").iterdir())]
    assert (info.folder / "red.png").read_bytes() in staged
    tables = {content["columns"][0]: content["data"] for content in map(json.loads, (one for one in staged if one[:1] == b"{"))}
    shown = tables["prompt"]
    assert [row[1] and row[1]["_type"] for row in shown] == ["image-file", "image-file", None]
    assert [row[2:] for row in shown] == [["[image red.png]", 1.0], ["[image broken.png]", None], ["text", 2]]
    assert tables["y"][0][0]["_type"] == "image-file"
    assert len(tables["z"]) == 100
    assert [row[0] for row in tables["x"]] == ["[image gone.png]", f"[audio {sound.digest()}]", "True", "1"]


def test_wandb_opens_pictures_of_usual_formats_alone(tmp_path: Path) -> None:
    """PostScript, which Pillow would give to another program to draw, is shown by its name."""
    from dpoframe.builtin.wandb import picture, require_bearable

    pil = pytest.importorskip("PIL")
    drawn = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n"
    (tmp_path / "a.eps").write_bytes(drawn)
    assert picture(Media("image", path=tmp_path / "a.eps")) == "[image a.eps]"
    with pytest.raises(pil.UnidentifiedImageError):
        require_bearable(Media("image", data=drawn))


class FakeRun:
    """Stands for an online W&B run whose server is slow, or refuses."""

    offline = False
    dir = "somewhere"

    def __init__(self, use: Any) -> None:
        self.use, self.used, self.logged = use, [], []

    def define_metric(self, *args: Any, **options: Any) -> None:
        """Takes a definition."""

    def use_artifact(self, name: str, **options: str) -> None:
        """Does what the test wants."""
        self.used.append((name, options))
        self.use()

    def log_artifact(self, made: Any, aliases: Any = None) -> None:
        """Remembers the artifact."""
        self.logged.append((made.name, made.type, aliases))


def refuse() -> None:
    """A server that does not know the artifact."""
    raise ValueError("no such artifact")


@pytest.mark.parametrize("use", [lambda: None, refuse, lambda: time.sleep(5)])
def test_wandb_links_the_evaluation_to_its_model(use: Any, info: RunInfo, wandb_folders: None) -> None:
    """The evaluation's run uses the very model of the run; a server that refuses or hangs costs no more than the limit."""
    pytest.importorskip("wandb")
    (info.folder / "report.html").write_text("page")
    run = FakeRun(use)
    session = WandbSession(run, log_model=True, timeout=0.5, model=f"trial:{version_of(info)}")
    before = time.monotonic()
    session.artifact("report", "trial-report", info.folder / "report.html")
    assert time.monotonic() - before < 3
    assert run.used == [(f"trial:{version_of(info)}", {"type": "model"})]
    assert run.logged == [("trial-report", "evaluation", None)]
    session.artifact("model", "trial", info.folder / "report.html")
    assert run.logged[1] == ("trial", "model", ["latest", version_of(info)])


ENDING = """
import multiprocessing, os, signal, sys
from pathlib import Path
from dpoframe import RunInfo
from dpoframe.builtin import wandb
wandb.EXIT_SECONDS = 0.5
def run():
    session = wandb.Wandb(mode="offline", timeout=1.0).start(RunInfo(Path(sys.argv[1]), "run", {}, {}))
    session.log({"step": 0, "loss": 1.0})
    _, process = wandb.service()
    print(process.pid, flush=True)
    os.kill(process.pid, getattr(signal, sys.argv[2]))
    if sys.argv[2] == "SIGKILL":
        process.wait()
    else:
        session.finish("finished")
if sys.argv[3] == "itself":
    run()
else:
    rank = multiprocessing.get_context("fork").Process(target=run)
    rank.start()
    rank.join()
    sys.exit(rank.exitcode)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
@pytest.mark.parametrize("who", ["itself", "forked"])
@pytest.mark.parametrize("number", ["SIGSTOP", "SIGKILL"])
def test_wandbs_process_does_not_keep_ours(number: str, who: str, info: RunInfo, wandb_folders: None) -> None:
    """Where W&B's own process does nothing more, or has died, ours ends at once all the same; none is left, and none raises.

    So too where a rank that was forked reports, which ends without the hooks that Python calls at its exit.
    """
    pytest.importorskip("wandb")
    line = [sys.executable, "-c", ENDING, str(info.folder), number, who]
    own = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # not that of the tests before
    ended = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False, env=own)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(ended.stdout.split()[-1]), 0)


def test_the_search_for_the_server_counts_as_start(info: RunInfo, wandb_folders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came before W&B's own start, looking for its server and loading the library, is taken off what that may take."""
    library = pytest.importorskip("wandb")
    given: list[float] = []

    def note(init_timeout: float, **more: Any) -> Any:
        given.append(init_timeout)
        raise RuntimeError("far enough")

    def slow(wanted: str) -> str:
        time.sleep(0.5)
        return wanted

    monkeypatch.setattr(library, "Settings", note)
    monkeypatch.setattr("dpoframe.builtin.wandb.chosen_mode", slow)
    with pytest.raises(RuntimeError, match="far enough"):
        Wandb(mode="offline").start(info)
    assert 3 <= given[0] <= START_SECONDS - 0.5


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
