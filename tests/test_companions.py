"""The processes of one command: one that has ended is told in the others, and none works on alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dpoframe.companions import CompanionError, watched
from dpoframe.errors import MachineError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals, as other systems do not have them")


def child(code: str = "import time; time.sleep(60)") -> subprocess.Popen[bytes]:
    """A process that stands for another rank."""
    return subprocess.Popen([sys.executable, "-c", code])


def work(seconds: float = 60) -> None:
    """Python code that runs for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


def working(others: list[subprocess.Popen[bytes]], how: Callable[[], None] = work) -> None:
    """Works while the others are watched."""
    with watched(lambda: others):
        how()


def ended(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A script with `watched` in it, run to its end."""
    head = "import sys, time, subprocess, threading\nfrom dpoframe import companions\nfrom dpoframe.companions import watched\n"
    command = [sys.executable, "-c", head + script]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_a_killed_process_is_told() -> None:
    """Wherever the first process stands, it ends with what became of the other; Lightning's list of children is empty then."""
    started = [child()]
    os.kill(started[0].pid, signal.SIGKILL)
    with pytest.raises(MachineError, match=r"Process 1 was ended from outside \(SIGKILL\).*the same command goes on"):
        working(started)
    assert started == []


def test_a_process_that_failed_said_why() -> None:
    """One that ended with an exit code has told of its own fault; this one only ends."""
    with pytest.raises(CompanionError, match="It said why"):
        working([child("raise SystemExit(3)")])


def test_a_process_that_is_done_disturbs_nobody() -> None:
    """One that ended well before the others is no fault, and neither is one that still works when this one is done."""
    others = [child("pass"), child()]
    kept = list(others)
    with watched(lambda: others):
        kept[0].wait(30)
        work(1.5)
    kept[1].kill()
    kept[1].wait(30)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_own_fault_comes_first(error: type[BaseException]) -> None:
    """Where all processes end at once, each tells of what happened to itself."""
    others = [child("raise SystemExit(1)")]
    others[0].wait(30)
    with pytest.raises(error), watched(lambda: others):
        raise error


def test_what_a_plugin_catches_is_not_lost() -> None:
    """Code that catches every Exception does not keep the process going."""

    def stubborn() -> None:
        with contextlib.suppress(Exception):
            work()
        pytest.fail("it was kept going")

    with pytest.raises(CompanionError):
        working([child("raise SystemExit(1)")], stubborn)


def test_nobody_works_on_without_the_first(tmp_path: Path) -> None:
    """A process whose parent, the first one, was killed ends by itself."""
    (tmp_path / "child.py").write_text(
        "import time\nfrom pathlib import Path\nfrom dpoframe.companions import CompanionError, watched\n"
        "try:\n    with watched(list, parent=True):\n        Path('begun').touch()\n"
        "        while True: time.sleep(0.01)\n"
        "except CompanionError as error:\n    Path('told').write_text(str(error))\n"
    )
    script = "import os\nsubprocess.Popen([sys.executable, 'child.py'])\n"
    script += "while not os.path.exists('begun'): time.sleep(0.02)\nos.kill(os.getpid(), 9)\n"
    assert ended(script, tmp_path).returncode == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while not (tmp_path / "told").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "Another process of this command has ended" in (tmp_path / "told").read_text()


def test_a_call_that_does_not_return(tmp_path: Path) -> None:
    """Where the process is held up outside Python it is ended as it is, after its message."""
    script = (
        "companions._LAST = 0.3\n"
        "others = [subprocess.Popen([sys.executable, '-c', 'import os; os.kill(os.getpid(), 9)'])]\n"
        "with watched(lambda: others):\n    threading.Lock().acquire() and threading.Event().wait()\n"
    )
    done = ended(script, tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert done.stderr.startswith("error: Process 1 was ended from outside (SIGKILL)")
