"""Several processes share an evaluation, and its files are those that one process writes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dpoframe.checkpoint import export
from dpoframe.errors import ConfigError
from dpoframe.harness import Subject, load_suite, run_suite
from dpoframe.harness.evaluate import evaluate
from dpoframe.harness.sharding import Ranks, launched
from dpoframe.harness.storage.store import claimed, file_of, opened
from dpoframe.plugins import host

HERE = Path(__file__).parent
FILES = ("manifest.json", "results.json", "samples.jsonl", "pairs.jsonl", "scores.jsonl", "samples.parquet")


def grouped(**fields: Any) -> Any:
    """The toy whose answers depend on what shares a batch."""
    return host().get("modality", f"{HERE / 'grouped.py'}:Grouped")(**fields)


@pytest.fixture
def suite_of_grouped(tmp_path: Path) -> Path:
    """Its suite's file."""
    prompts = ", ".join(f"say {chr(97 + number)} {number}" for number in range(18))
    file = tmp_path / "grouped.yaml"
    file.write_text(
        f"name: grouped\nversion: 1\nprompts: [{prompts}]\npairs: {{name: '{HERE / 'grouped.py'}:pairs', count: 30}}\n"
        "generation: {max_new_tokens: 8, temperature: 1.0}\nsamples: 2\n"
        "evaluators: [response_length, finished, base_logp, distinct_n, preference_accuracy]\n"
    )
    return file


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An exported model, which any process can open."""
    modality = grouped()
    export(modality, modality.build(), tmp_path / "model", "A toy.", name=f"{HERE / 'grouped.py'}:Grouped")
    return tmp_path / "model"


def contents(folder: Path) -> dict[str, bytes]:
    """Every exported file."""
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_share_the_plan(count: int, suite_of_grouped: Path, tmp_path: Path) -> None:
    """Each rank does its share and no other's, into its own file; the exports are those of one rank, byte for byte."""
    suite, meeting = load_suite(suite_of_grouped), threading.Barrier(count)

    def made(seed: int = 0) -> Subject:
        modality = grouped(init_seed=seed)
        return Subject("toy", modality, modality.build())

    run_suite(made(), suite, tmp_path / "one", base=made(1))
    # Made before the threads start: the toy draws its weights from torch's global state.
    models = [(made(), made(1)) for _ in range(count)]

    def work(rank: int) -> Any:
        ranks = Ranks(rank, count, lambda: meeting.wait(60))  # type: ignore[arg-type]
        subject, base = models[rank]
        return run_suite(subject, suite, tmp_path / "many", base=base, ranks=ranks)

    with ThreadPoolExecutor(count) as pool:
        results = list(pool.map(work, range(count)))
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert all(one == results[0] for one in results)
    own = []
    for rank in range(1, count):
        with opened(tmp_path / "many", rank) as store:
            own.append(store.database.execute("SELECT count(*) FROM main.samples").fetchone()[0])
    assert sum(own) == 36 - len(range(0, 9, count)) * 4
    assert all(own)


def started(tmp_path: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    line = [sys.executable, "-m", "dpoframe", "eval", *words]
    given = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=given)


def test_two_processes_write_what_one_writes(model: Path, suite_of_grouped: Path, tmp_path: Path) -> None:
    """`--devices 2` has Lightning start a second process: the same bytes, one document on stdout, a file a rank."""
    evaluate(str(model), [suite_of_grouped], out=tmp_path / "one")
    process = started(tmp_path, str(model), str(suite_of_grouped), "--out", "two", "--devices", "2", "--json")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert contents(tmp_path / "two" / "grouped") == contents(tmp_path / "one" / "grouped")
    assert json.loads(out)["suites"][0]["complete"] is True
    assert all(file_of(tmp_path / "two" / "grouped", rank).is_file() for rank in (0, 1))


def test_two_processes_and_a_claimed_folder(model: Path, suite_of_grouped: Path, tmp_path: Path) -> None:
    """The first process says why nothing can be done; the second ends with it and has no error of its own to report."""
    with claimed(tmp_path / "two" / "grouped"):
        process = started(tmp_path, str(model), str(suite_of_grouped), "--out", "two", "--devices", "2")
        _, err = process.communicate(timeout=200)
    assert process.returncode == 2, err
    assert "Another process is evaluating into" in err
    assert not any(part in err for part in ("internal", "Traceback", "Connection closed"))


@pytest.mark.slow
def test_processes_that_torchrun_started(model: Path, suite_of_grouped: Path, tmp_path: Path) -> None:
    """Where an outer launcher has started the processes, they share the work without --devices."""
    evaluate(str(model), [suite_of_grouped], out=tmp_path / "one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    given = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GROUP_RANK": "0"}
    given |= {"TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_MAX_RESTARTS": "0"}
    words = (str(model), str(suite_of_grouped), "--out", "two", "--json")
    ranks = [started(tmp_path, *words, **given, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(2)]
    said = [process.communicate(timeout=200) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], said
    assert contents(tmp_path / "two" / "grouped") == contents(tmp_path / "one" / "grouped")
    assert [bool(out) for out, _ in said] == [True, False]


def test_another_number_of_processes_than_the_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    """--devices against the number that torchrun started is a clear error."""
    for name, value in {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="the launcher started 2 processes"), launched(3):
        pass


@pytest.mark.parametrize(("tasks", "nodes", "expected"), [("4", "2", (2, 2)), ("1", "1", (1, 1))])
def test_processes_that_slurm_started(tasks: str, nodes: str, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Under srun the tasks of the job are the processes."""
    from dpoframe.harness import sharding

    given = {"SLURM_NTASKS": tasks, "SLURM_NNODES": nodes, "SLURM_JOB_NAME": "job", "SLURM_PROCID": "0", "SLURM_JOB_ID": "1"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert sharding._outer() == expected
