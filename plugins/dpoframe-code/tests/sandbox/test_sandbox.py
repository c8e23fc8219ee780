"""The sandbox at work: programs, limits, many at a time, and what happens when its own parts die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from dpoframe_code.sandbox import Call, Limits, Outcome, Sandbox, Status, Tier, run

from dpoframe import ConfigError, MachineError

DOUBLE = "def double(x): return 2 * x"


def test_run_alone() -> None:
    """One call of one function is enough, from a fresh interpreter too, which ends without a word and leaves nothing."""
    assert run(DOUBLE, [Call("double", (21,))])[0].value == 42
    source = "from dpoframe_code.sandbox import *; print(run('def f(x): return x', [Call('f', (1,))])[0].value)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)


def test_programs_are_ordinary_python(sandbox: Sandbox) -> None:
    """The standard library, classes, dataclasses, pickles, event loops and dotted names work as they do elsewhere."""
    program = """
import asyncio, collections, dataclasses, datetime, decimal, functools, hashlib, heapq, itertools, json, math, pickle, random, re
import sqlite3, statistics, string, sys, typing, unicodedata, xml.etree.ElementTree, zoneinfo
@dataclasses.dataclass
class Point:
    x: int
    def moved(self, by): return Point(self.x + by)
class Stack:
    @staticmethod
    def push(items, item): return [*items, item]
def copies(x): return pickle.loads(pickle.dumps(Point(x))).moved(1).x
def waits(x):
    async def later():
        await asyncio.sleep(0.001)
        return x
    return asyncio.run(later())
def keywords(a, *, b=2): return a, b
def database(): return sqlite3.connect(":memory:").execute("select 1 + 1").fetchone()
def zone(): return str(datetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")).utcoffset())
def main_is_not_run(): return __name__
"""
    calls = [
        *(Call("copies", (1,)), Call("waits", (3,)), Call("keywords", (1,), {"b": 5}), Call("Stack.push", ([1], 2))),
        *(Call("database"), Call("main_is_not_run")),
    ]
    outcomes = sandbox.run(program, calls)
    assert [outcome.value for outcome in outcomes] == [2, 3, (1, 5), [1, 2], (2,), "program"], outcomes
    if Path("/usr/share/zoneinfo/Europe/Berlin").exists():
        assert sandbox.run(program, [Call("zone")])[0].value == "2:00:00"


def test_calls_of_a_program_share_it_and_programs_share_nothing(sandbox: Sandbox) -> None:
    """What a program remembers is there for its next call, and gone for the next program."""
    program = "import sys\nseen = []\ndef f(x):\n    seen.append(x)\n    sys.left = 1\n    return list(seen), hasattr(sys, 'left')"
    for _ in range(2):
        assert [each.value for each in sandbox.run(program, [Call("f", (1,)), Call("f", (2,))])] == [([1], True), ([1, 2], True)]
    assert sandbox.run("import sys\ndef f(): return hasattr(sys, 'left')", [Call("f")])[0].value is False


def test_verdicts_repeat(sandbox: Sandbox) -> None:
    """Hash seeds and random numbers are the same for each program, so that a verdict can be had again."""
    program = "import random\ndef f(): return [random.random(), hash('a'), list({'x', 'y', 'z'})]"
    assert sandbox.run(program, [Call("f")])[0].value == sandbox.run(program, [Call("f")])[0].value


def test_outcomes_tell(sandbox: Sandbox) -> None:
    """Tier, output, times and the exception stand in the outcome."""
    program = """
import sys, time
print('loaded')
def f():
    print('called', file=sys.stderr)
    time.sleep(0.05)
    raise KeyError('k')
"""
    (outcome,) = sandbox.run(program, [Call("f")])
    assert (outcome.status, outcome.error, outcome.value) == (Status.RAISED, "KeyError: 'k'", None)
    assert outcome.output == "loaded\ncalled\n"
    assert outcome.tier is sandbox.tier
    assert 0.05 <= outcome.seconds < 5
    assert outcome.cpu_seconds is not None
    assert 0 < outcome.cpu_seconds < 1


def test_processor_time_is_the_kernels(sandbox: Sandbox) -> None:
    """A program that works for a while is charged for it; one that sleeps is not."""
    program = """
import time
def work():
    end = time.process_time() + .3
    while time.process_time() < end: pass
def rest(): time.sleep(.3)
"""
    worked, rested = (sandbox.run(program, [Call(name)])[0].cpu_seconds or 0 for name in ("work", "rest"))
    assert 0.3 <= worked < 0.9
    assert rested < 0.2


def test_output_is_kept_to_its_limit(sandbox: Sandbox) -> None:
    """Much output does no harm below the flood: its beginning is kept, the program goes on."""
    program = "import sys\ndef f():\n    sys.stdout.write('a' * 3_000_000)\n    return 1"
    (outcome,) = sandbox.run(program, [Call("f")], Limits(output_bytes=1000))
    assert (outcome.status, outcome.output) == (Status.RETURNED, "a" * 1000)


def test_memory_is_limited_and_can_be_raised(sandbox: Sandbox) -> None:
    """What is too much under one limit is possible under a larger one; the least limit still lets a program run."""
    program = "def f(): return len(bytearray(200 << 20))"
    small, large = (sandbox.run(program, [Call("f")], Limits(memory_bytes=size << 20))[0] for size in (128, 1024))
    assert (small.status, small.error.split(":")[0]) == (Status.RAISED, "MemoryError")
    assert large.value == 200 << 20
    assert sandbox.run(DOUBLE, [Call("double", (1,))], Limits(memory_bytes=64 << 20))[0].value == 2


@pytest.mark.parametrize(
    "limits",
    [
        *({"cpu_seconds": 0}, {"cpu_seconds": 1.5}, {"wall_seconds": -1}, {"memory_bytes": 1 << 20}, {"output_bytes": 0}),
        *({"cpu_seconds": float("nan")}, {"cpu_seconds": float("inf")}, {"wall_seconds": float("inf")}, {"cpu_seconds": True}),
        *({"wall_seconds": float("nan")}, {"memory_bytes": 3e8}, {"memory_bytes": 1 << 70}, {"flood_bytes": "1"}),
        *({"cpu_seconds": 10**6}, {"memory_bytes": None}, {"wall_seconds": 1e9}),
    ],
)
def test_limits_are_checked(limits: dict[str, Any]) -> None:
    """Limits under which nothing could run are refused by name."""
    with pytest.raises(ConfigError, match=next(iter(limits))):
        Limits(**limits)


def test_sources_that_are_too_long_do_not_load(sandbox: Sandbox) -> None:
    """A program beyond what a message holds has not loaded, and the tests that are such a script have failed."""
    long = f"{DOUBLE}\n#{'x' * (5 << 20)}"
    assert sandbox.load(long).status is Status.LOAD_FAILED
    assert sandbox.run(long, [Call("double", (1,))])[0].error.startswith("the source is too long: ")
    assert sandbox.judge(DOUBLE, long, "check", ["double"]).status is Status.INFRA_ERROR


def test_whatever_the_caller_does_with_signals() -> None:
    """Callers that ignore the end of children, or hold all signals back, get their verdicts in both tiers."""
    source = """
    import signal
    from dpoframe_code.sandbox import Call, Limits, Sandbox, Tier
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for tier in Tier:
        with Sandbox(Limits(cpu_seconds=1), tier=tier) as sandbox:
            for program in ("def f(x): return x", "def f(x):\\n    while True: pass", "import os\\ndef f(x): os._exit(3)"):
                print(sandbox.run(program, [Call("f", (1,))])[0].status)
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.stdout.split(), done.stderr) == (["returned", "timeout", "died"] * 2, "")


def test_large_messages_pass(sandbox: Sandbox) -> None:
    """Arguments and answers of a few megabytes go both ways."""
    text = "x" * 3_000_000
    assert sandbox.run("def f(x): return x", [Call("f", (text,))])[0].value == text


def test_many_at_a_time_keep_their_order(sandbox: Sandbox) -> None:
    """Programs that overlap get their own answers, in the order of the jobs; bad ones among them disturb nobody."""
    sleepy = "import time, os\ndef f(x):\n    time.sleep(0.02 * (x % 3))\n    return os._exit(1) if x % 7 == 3 else x"
    jobs = ((sleepy, [Call("f", (x,))]) for x in range(60))
    outcomes = [outcome for (outcome,) in sandbox.run_all(jobs, workers=8)]
    assert [each.value for each in outcomes] == [None if x % 7 == 3 else x for x in range(60)]
    assert {each.status for each in outcomes} == {Status.RETURNED, Status.DIED}


def test_at_a_time_means_at_a_time(sandbox: Sandbox) -> None:
    """Ten programs that sleep a quarter of a second are done long before the sum of it."""
    begin = time.monotonic()
    list(sandbox.run_all([("import time\ndef f(): time.sleep(.25)", [Call("f")])] * 10, workers=10))
    assert time.monotonic() - begin < 2


def test_a_zygote_that_dies_is_started_again(sandbox: Sandbox) -> None:
    """Killing the zygote costs nobody a verdict: not the next program, nor one that is running."""
    for _ in range(2):
        assert sandbox._zygote is not None
        os.kill(sandbox._zygote.pid, signal.SIGKILL)
        assert sandbox.run(DOUBLE, [Call("double", (21,))])[0].value == 42
    jobs = [("import time\ndef f(x):\n    time.sleep(.3)\n    return x", [Call("f", (x,))]) for x in range(4)]
    outcomes = sandbox.run_all(jobs, workers=4)
    time.sleep(0.1)
    os.kill(sandbox._zygote.pid, signal.SIGKILL)
    assert [outcome.value for (outcome,) in outcomes] == [0, 1, 2, 3]


def test_a_zygote_that_dies_costs_tests_nothing(sandbox: Sandbox) -> None:
    """Killed while the tests run, or while the program does, it is started again, and tests and program are begun anew."""
    tests = "import time\ndef check():\n    assert f(2) == 4\n    time.sleep(.3)\n    assert f(3) == 6"
    slow = "import time\ndef f(x):\n    time.sleep(.3)\n    return 2 * x"
    for program in ("def f(x): return 2 * x", slow):
        assert sandbox.load(program).status is Status.RETURNED
        assert sandbox._zygote is not None
        killing = threading.Timer(0.2, os.kill, (sandbox._zygote.pid, signal.SIGKILL))
        killing.start()
        assert sandbox.judge(program, tests, "check", ["f"]).status is Status.PASSED
        killing.join()


def test_a_zygote_that_cannot_be_started_again_is_no_fault_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the sandbox itself breaks, each call gets infra_error, and the run goes on."""
    from dpoframe_code.sandbox import sandbox as module
    from dpoframe_code.sandbox.warm import StartError

    def broken(*_: Any) -> Any:
        raise StartError("no more of it")

    with Sandbox() as made:
        monkeypatch.setattr(module, "WarmZygote", broken)
        assert made._zygote is not None
        os.kill(made._zygote.pid, signal.SIGKILL)
        outcomes = made.run(DOUBLE, [Call("double", (1,))] * 2)
    assert [(each.status, each.tier) for each in outcomes] == [(Status.INFRA_ERROR, made.tier)] * 2
    assert "no more of it" in outcomes[0].error


def test_a_program_that_is_killed_from_outside_is_not_blamed(sandbox: Sandbox) -> None:
    """A machine without memory kills programs; that is infra_error. A program cannot bring it about by itself."""
    jobs = sandbox.run_all([("import time\ndef f(): time.sleep(5)", [Call("f")])], workers=1)
    waiting = threading.Thread(target=lambda: outcomes.extend(next(jobs)))
    outcomes: list[Outcome] = []
    waiting.start()
    time.sleep(0.3)
    assert sandbox._zygote is not None
    below = _below(sandbox._zygote.pid)
    youngest = max(below, key=lambda pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]))
    os.kill(youngest, signal.SIGKILL)
    waiting.join()
    assert (outcomes[0].status, outcomes[0].error[:24]) == (Status.INFRA_ERROR, "killed from outside the ")
    assert sandbox.run(DOUBLE, [Call("double", (21,))])[0].value == 42


def test_nothing_accumulates(sandbox: Sandbox) -> None:
    """Hundreds of programs, good and bad, leave no descriptor open here and no process below."""
    assert sandbox._zygote is not None
    programs = [
        "def f(): return 1",
        "import os\ndef f(): os._exit(0)",
        "def f(",
        "import os\ndef f():\n    os.close(3)\n    while 1: pass",
    ]
    list(sandbox.run_all([(each, [Call("f")]) for each in programs]))
    before, below = len(list(Path("/proc/self/fd").iterdir())), _below(sandbox._zygote.pid)
    list(sandbox.run_all([(each, [Call("f")]) for each in programs[:3] * 80 + programs[3:] * 4], workers=4))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert _below(sandbox._zygote.pid) == below


def test_outside_of_with() -> None:
    """A sandbox that was not entered, or was left, says so."""
    made = Sandbox()
    with pytest.raises(MachineError, match="with Sandbox"):
        made.run(DOUBLE, [])
    with made:
        pass
    with pytest.raises(MachineError, match="with Sandbox"):
        made.run(DOUBLE, [])


def test_own_folders_can_be_lent(tmp_path: Path) -> None:
    """A folder that is lent can be imported from and read, and not written to; without it there is no such module."""
    (tmp_path / "lent.py").write_text("number = 42")
    program = f"import lent\ndef f(): return lent.number\ndef g(): open({str(tmp_path / 'new')!r}, 'w')"
    for tier in Tier:
        with Sandbox(tier=tier, folders=[tmp_path]) as made:
            read, wrote = made.run(program, [Call("f"), Call("g")])
        assert (read.value, wrote.status) == (42, Status.RAISED)
        with Sandbox(tier=tier) as made:
            assert made.load(program).error == "ModuleNotFoundError: No module named 'lent'"


def test_a_forked_process_gets_its_own() -> None:
    """After a fork the child process starts a zygote of its own, and the parent's stays as it was."""
    source = """
    import multiprocessing, warnings
    from dpoframe_code.sandbox import Call, Sandbox
    def work(x):
        return sandbox.run("def f(x): return x", [Call("f", (x,))])[0].value, sandbox._zygote.pid
    with Sandbox() as sandbox:
        first = work(1)
        with multiprocessing.get_context("fork").Pool(1) as pool:
            other = pool.apply(work, (2,))
        print(first[0], other[0], work(3)[0], first[1] != other[1], first[1] == work(4)[1])
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("1 2 3 True True\n", "")


@pytest.mark.parametrize("tier", Tier, ids=lambda tier: tier.name.lower())
def test_an_owner_that_is_killed_leaves_nothing(tier: Tier) -> None:
    """When the owner is killed at work, zygote and running programs end with it, and so they do with a forked helper about."""
    source = f"""
    import os, threading, time
    from dpoframe_code.sandbox import Call, Sandbox, Tier
    with Sandbox(tier=Tier.{tier.name}) as sandbox:
        job = "def f():\\n    while True: pass", [Call("f")]
        threading.Thread(target=lambda: list(sandbox.run_all([job] * 2, workers=2)), daemon=True).start()
        helper = os.fork()
        if helper == 0:
            os.close(1)
            time.sleep(8)
            os._exit(0)
        time.sleep(.3)
        print(helper, sandbox._zygote.pid, flush=True)
        time.sleep(30)
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(source)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        helper, zygote = map(int, owner.stdout.readline().split())
        below = _below(zygote)
        assert len(below) >= 2
        owner.kill()
    try:
        deadline = time.monotonic() + 5
        while (left := [pid for pid in {zygote, *below} if _runs(pid)]) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left == []
    finally:
        os.kill(helper, signal.SIGKILL)


def test_a_worker_without_its_zygote_runs_nothing() -> None:
    """A worker whose zygote died before it could ask to die with it says so, and reads no program."""
    source = """
    import os, socket
    from dpoframe_code.sandbox.inside import worker
    class Locks:
        descriptors = ()
        def put_on(self, limits): pass
    os.closerange(3, 50)
    os.dup2(0, 3), os.dup2(0, 4)
    for zygote in (os.getpid(), 1 << 22):
        (mine, wire), (told, status) = socket.socketpair(), socket.socketpair()
        if os.fork() == 0:
            worker.main(wire.fileno(), 1, status.fileno(), Locks(), {}, zygote)
        wire.close(), status.close()
        said, why = mine.recv(100), told.recv(100)
        mine.close()
        print(said[4:], why, os.waitstatus_to_exitcode(os.wait()[1]))
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.stdout.splitlines() == [
        """b'{"locked":true}' b'' 0""",
        """b'' b'{"failed": "ProcessLookupError: the zygote has ended"}' 1""",
    ], done.stderr


def _below(pid: int) -> set[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_sandbox_that_is_left_leaves_nothing() -> None:
    """Leaving the `with` ends the zygote and all below it."""
    with Sandbox() as made:
        assert made._zygote is not None
        pid = made._zygote.pid
        below = _below(pid)
        assert _runs(pid)
    # Bubblewrap's outer process leaves a moment before its inner one.
    deadline = time.monotonic() + 5
    while any(map(_runs, {pid, *below})) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(_runs, {pid, *below}))
