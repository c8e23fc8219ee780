"""The command as a process of its own: signals, closed and full streams, and what plugins do to them."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from dpoframe.checkpoint import CheckpointFolder

PLUGIN = """
import os, time
from dpoframe.testing.toy import toy_dataset

def noisy(count: int = 4):
    os.write(1, b"raw\\n")
    print("printed")
    return toy_dataset(count)

def quits(count: int = 4):
    raise SystemExit(7)

def calm(count: int = 8):
    return toy_dataset(count)

def slow(count: int = 4):
    open("started", "w").close()
    time.sleep(60)
    return toy_dataset(count)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a file plugin and a data set."""
    (tmp_path / "mine.py").write_text(textwrap.dedent(PLUGIN))
    return tmp_path


def recipe(place: Path, source: str) -> str:
    """A recipe of the toy modality whose data set is one of the plugin's."""
    (place / "toy.py").write_text("from dpoframe.testing.toy import ToyModality as T\nclass Toy(T): pass\n")
    file = place / "recipe.yaml"
    file.write_text(f"modality: {{name: ./toy.py:Toy}}\ndata: {{name: ./mine.py:{source}}}\ntrainer: {{max_steps: 1}}\n")
    return str(file)


def started(place: Path, *words: str) -> subprocess.Popen[str]:
    """The command, begun."""
    line = [sys.executable, "-m", "dpoframe", *words]
    return subprocess.Popen(line, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_json_is_the_only_thing_on_stdout(place: Path) -> None:
    """With --json, what a plugin prints, or writes to descriptor 1 past Python, goes to stderr."""
    process = started(place, "data", "check", recipe(place, "noisy"), "--json")
    out, err = process.communicate(timeout=60)
    assert json.loads(out)["rows"] == 4
    assert "raw" in err
    assert "printed" in err


@pytest.mark.parametrize("words", [["--version"], ["config", "--schema", "--json"], ["plugins"]], ids=" ".join)
def test_a_full_disk_under_stdout(words: list[str], tmp_path: Path) -> None:
    """A result that cannot be written is the machine's lack: one message, 3, and nothing more at exit."""
    with Path("/dev/full").open("w") as full:
        line = [sys.executable, "-m", "dpoframe", *words]
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_full_disk_under_stderr(tmp_path: Path) -> None:
    """A log that cannot be written changes no exit code."""
    with Path("/dev/full").open("w") as full:
        line = [sys.executable, "-m", "dpoframe", "config", "absent.yaml"]
        done = subprocess.run(line, stdout=subprocess.PIPE, stderr=full, text=True, timeout=60, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_closed_streams(closed: int, tmp_path: Path) -> None:
    """Standard streams that are closed from the start change no exit code."""
    shell = f'exec "$0" -m dpoframe config absent.yaml {closed}{"<" if closed == 0 else ">"}&-'
    done = subprocess.run(["bash", "-c", shell, sys.executable], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_plugin_that_ends_the_program_is_named(place: Path) -> None:
    """SystemExit of a plugin is a failure with a message, not a quiet end with the plugin's code."""
    process = started(place, "data", "check", recipe(place, "quits"))
    out, err = process.communicate(timeout=60)
    assert process.returncode in (1, 2)
    assert out == ""
    assert err.startswith("error: ")
    assert "SystemExit" in err


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["SIGINT", "SIGTERM", "SIGHUP"]
)
def test_a_signal_unwinds_the_command(number: signal.Signals, code: int, place: Path) -> None:
    """Ctrl-C, SIGTERM and SIGHUP end a verb with one message and one document, and leave nothing half-written."""
    process = started(place, "data", "convert", recipe(place, "slow"), "--out", "pairs.jsonl", "--json")
    before = {file.name for file in place.iterdir()}
    deadline = time.monotonic() + 50
    while not (place / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert json.loads(out)["error"]["exit_code"] == code
    assert err.count("\n") == 1
    assert "Interrupted" in err
    assert {file.name for file in place.iterdir()} - before <= {"started", "__pycache__"}


# The command with its standard streams on a terminal that is its own, as a shell starts it.
ON_A_TERMINAL = "import os, sys; os.login_tty(0); os.execv(sys.executable, [sys.executable, '-m', 'dpoframe', *sys.argv[1:]])"


def test_a_closed_terminal_leaves_a_run_to_resume(place: Path) -> None:
    """Where the terminal goes away the step is finished and saved, though nothing can be written there any more; 129."""
    file = Path(recipe(place, "calm"))
    file.write_text(file.read_text().replace("max_steps: 1}", "max_steps: 1000000, accelerator: cpu, devices: 1}"))
    ours, theirs = pty.openpty()
    line = [sys.executable, "-c", ON_A_TERMINAL, "train", str(file), "--out", "run"]
    process = subprocess.Popen(line, cwd=place, stdin=theirs)
    os.close(theirs)
    said, deadline = b"", time.monotonic() + 60
    while not (place / "run" / "metrics.jsonl").exists() and time.monotonic() < deadline:
        if select.select([ours], [], [], 0.05)[0]:
            said += os.read(ours, 65536)
    os.close(ours)
    assert process.wait(60) == 129, said.decode()
    saved = CheckpointFolder(place / "run" / "checkpoints")
    rows = (place / "run" / "metrics.jsonl").read_text().splitlines()
    assert saved.latest() is not None
    assert saved.steps() == [json.loads(rows[-1])["step"] + 1] == [len(rows)]
