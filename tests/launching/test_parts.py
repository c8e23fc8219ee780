"""What of the launcher needs no Ray: what is refused, what goes to workers, and what the command makes of their answers."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpoframe import ConfigError, DataError, MachineError, MissingExtraError
from dpoframe.config import load_recipe
from dpoframe.launching import RayRun, Workers, train_on_ray
from dpoframe.launching.board import Board, Notes
from dpoframe.launching.job import Job, WorkerError
from dpoframe.launching.training import outcome, scratch
from dpoframe.launching.watching import requests, shown
from dpoframe.launching.worker import await_claim, in_ranks, teller
from dpoframe.train.claim import claimed
from dpoframe.train.fit import fit
from dpoframe.train.folder import RunFolder
from dpoframe.train.interruption import ask_to_end


@pytest.mark.parametrize("wrong", [Workers(0), Workers(2, cpus=0), Workers(2, gpus=2), Workers(-1)], ids=repr)
def test_wrong_workers(wrong: Workers, recipe: Path, tmp_path: Path) -> None:
    """Numbers of workers that cannot be are a ConfigError from Python, too."""
    with pytest.raises(ConfigError, match=r"is -?\d"):
        train_on_ray(load_recipe(recipe), tmp_path / "run", workers=wrong)


def test_what_a_worker_holds() -> None:
    """A GPU each where the cluster has any, unless said otherwise."""
    assert Workers(2).resources({"CPU": 8.0}) == {"CPU": 1.0}
    assert Workers(2, cpus=3).resources({"CPU": 8.0, "GPU": 2.0}) == {"CPU": 3.0, "GPU": 1.0}
    assert Workers(2, gpus=0).resources({"CPU": 8.0, "GPU": 2.0}) == {"CPU": 1.0}
    assert Workers(2, gpus=1).resources({"CPU": 8.0}) == {"CPU": 1.0, "GPU": 1.0}


def test_a_job_is_the_recipe_with_its_secrets_and_shows_none(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What workers load is the command's recipe, secrets whole; settings go along, and other variables do not."""
    monkeypatch.setenv("DPOFRAME_CACHE", "/shared/cache")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    reporter = {"name": "wandb", "entity": "hf_" + "a" * 30}
    loaded = load_recipe({**load_recipe(recipe).to_dict(), "reporters": [reporter]})
    job = pickle.loads(pickle.dumps(Job.of(loaded, Path("run"))))
    assert job.load().reporters[0].value.entity == reporter["entity"]
    assert job.load() == loaded
    assert reporter["entity"] not in repr(job)
    assert job.settings["DPOFRAME_CACHE"] == "/shared/cache"
    assert "0123456789abcdef" not in str(job.settings)


@pytest.mark.parametrize(
    ("error", "final", "code"),
    [
        (ConfigError("The recipe is wrong."), True, 2),
        (DataError("No pair."), True, 2),
        (MissingExtraError("the text modality", "transformers", "pip install it"), True, 3),
        (MachineError("Another rank has ended."), False, 3),
        (RuntimeError("CUDA error"), False, 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_of_workers(error: Exception, final: bool, code: int) -> None:
    """What another try would not mend is final; the text, kind and exit code survive the way to the command."""
    told = pickle.loads(pickle.dumps(WorkerError.of(error)))
    assert (told.kind, told.final, told.exit_code) == (type(error).__name__, final, code)
    assert str(error) in str(told)


def test_errors_of_workers_hold_no_secret() -> None:
    """A token in an error's text does not reach Ray's logs."""
    assert "hf_" not in str(WorkerError.of(RuntimeError("401 for hf_" + "a" * 30)))


def test_the_board() -> None:
    """A try begins without the error of the last one, unless that was final: then there is nothing left to do."""

    async def story() -> None:
        board = Board()
        assert await board.begin() == (1, True)
        await board.fail(WorkerError.of(MachineError("lost")))
        assert await board.begin() == (2, True)
        assert (await board.read()).error is None
        await board.fail(WorkerError.of(DataError("bad rows")))
        await board.fail(WorkerError.of(MachineError("the other rank is gone")))
        assert await board.begin() == (3, False)
        assert str((await board.read()).error) == "bad rows"
        waiting = asyncio.ensure_future(board.interruption())
        await board.interrupt(signal.SIGTERM)
        assert await waiting == signal.SIGTERM
        await board.conclude(RayRun(Path("run"), 3))
        assert (await board.read()).result == RayRun(Path("run"), 3, tries=3)

    asyncio.run(story())


def test_outcomes(tmp_path: Path) -> None:
    """A result is given; a final error is raised as it is; of others it is said how often and what to do."""
    folder = RunFolder(tmp_path)
    stopped = RayRun(tmp_path, 3, {}, "interrupted", 143)
    assert outcome(Notes(1, result=stopped), None, 3, folder) == stopped
    final = WorkerError.of(DataError("bad rows"))
    with pytest.raises(WorkerError, match=r"^bad rows$") as raised:
        outcome(Notes(2, error=final), None, 3, folder)
    assert raised.value.exit_code == 2
    folder.recipe.touch()
    with pytest.raises(WorkerError, match=r"started 4 times.*retries is 3.*CUDA error\nIt goes on .*--resume"):
        outcome(Notes(4, error=WorkerError.of(RuntimeError("CUDA error"))), RuntimeError("Ray's"), 3, folder)
    with pytest.raises(MachineError, match=r"started 4 times.*worker died"):
        outcome(Notes(4), RuntimeError("worker died"), 3, folder)
    with pytest.raises(MachineError, match="all machines share"):
        outcome(Notes(1, result=RayRun(tmp_path, 3)), None, 3, folder)


def test_scratch_takes_back_what_it_made(tmp_path: Path) -> None:
    """Ray's notes go; so do folders in which nothing was written, and no others."""
    folder = RunFolder(tmp_path / "runs" / "new")
    with scratch(folder):
        (folder.path / ".ray" / "notes").mkdir(parents=True)
    assert list(tmp_path.iterdir()) == []
    with scratch(folder):
        folder.path.joinpath("metrics.jsonl").touch()
    assert [path.name for path in folder.path.iterdir()] == ["metrics.jsonl"]


def test_scratch_asks_whether_another_writes_there(tmp_path: Path) -> None:
    """A run folder that a process holds is refused before workers are started."""
    with claimed(tmp_path), pytest.raises(ConfigError, match="Another process"), scratch(RunFolder(tmp_path)):
        pytest.fail("was let in")


def test_the_claim_of_the_last_try_is_waited_for(tmp_path: Path) -> None:
    """A try waits until the process before has let go, and not for ever."""
    held = threading.Event()

    def hold() -> None:
        with claimed(tmp_path):
            held.set()
            time.sleep(0.5)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    await_claim(tmp_path)
    assert not thread.is_alive() or not thread.join(0.1)
    with claimed(tmp_path):
        started = time.monotonic()
        await_claim(tmp_path, patience=0.3)
        assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize(("here", "world", "machines"), [(1, 1, 1), (2, 2, 1), (2, 6, 3)])
def test_ranks_of_a_recipe(here: int, world: int, machines: int, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices and machines are what Ray has given, whatever the recipe says."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
    monkeypatch.setenv("WORLD_SIZE", str(world))
    section = in_ranks(load_recipe(recipe)).trainer
    assert (section.devices, section.num_nodes) == (here, machines)


def test_uneven_machines(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three workers on one machine and one on another is an error with a way out."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match=r"3 of 4 workers.*multiple"):
        in_ranks(load_recipe(recipe))


def test_progress_is_not_told_for_every_step() -> None:
    """The first and the last step of a stage are, and few between."""
    told: list[tuple[Any, ...]] = []

    class BoardStandIn:
        class tell:  # noqa: N801 - as Ray has it
            @staticmethod
            def remote(*words: Any) -> None:
                told.append(words)

    tell = teller(BoardStandIn())
    for step in range(1, 1001):
        tell("train", step, 1000)
    assert told[0] == ("train", 1, 1000)
    assert told[-1] == ("train", 1000, 1000)
    assert len(told) < 50


def test_progress_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Where stderr is no terminal each stage begins and ends with a line."""
    with shown(None) as show:
        for step in range(1, 11):
            show("train", step, 10)
        show("train", 10, 10)
    assert capsys.readouterr().err.splitlines() == ["train 1 of 10", "train 10 of 10"]


@pytest.fixture
def raising() -> Iterator[None]:
    """SIGTERM raises, as it does under the command line."""

    def fail(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, fail)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("raising")
def test_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is noted, another one within a second is the same request, and one after that ends the command."""
    with requests() as received:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert received == [signal.SIGTERM]
        monkeypatch.setattr("dpoframe.launching.watching.ONE_REQUEST", -1.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_can_be_asked_to_end(recipe: Path, tmp_path: Path) -> None:
    """As by a signal: it ends after the step in hand with a checkpoint, and goes on to the losses of an unbroken run."""
    whole = fit(load_recipe(recipe), tmp_path / "whole", progress=lambda *words: None)

    def ask(stage: str, done: int, total: int) -> None:
        if done == 3:
            ask_to_end(signal.SIGTERM)

    stopped = fit(load_recipe(recipe), tmp_path / "run", progress=ask)
    assert (stopped.status, stopped.exit_code, stopped.steps) == ("interrupted", 143, 3)
    fit(load_recipe(recipe), tmp_path / "run", resume=True, progress=lambda *words: None)
    losses = [[row["loss"] for row in RunFolder(path).rows()] for path in (whole.folder, tmp_path / "run")]
    assert losses[0] == losses[1]
