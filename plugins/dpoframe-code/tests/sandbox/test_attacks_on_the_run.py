"""Programs that end badly: each gets the right status, within its limits, and the next one runs as ever."""

from __future__ import annotations

import time
from typing import Any

import pytest
from dpoframe_code.sandbox import Call, Limits, Sandbox

LIMITS = Limits(cpu_seconds=1, wall_seconds=3, memory_bytes=256 << 20, flood_bytes=4 << 20)
PRELUDE = """
import ctypes, os, resource, signal, socket, sys, threading, time
through = []
def tried(label, action, *arguments):
    try:
        action(*arguments)
    except (OSError, RuntimeError, MemoryError, ValueError, ImportError):
        return False
    through.append(label)
    return True
libc = ctypes.CDLL(None, use_errno=True)
"""

DEADLY: dict[str, tuple[str, set[str]]] = {
    "endless_loop": ("def attack(*bait):\n    while True: pass", {"timeout"}),
    "endless_load": ("while True: pass", {"timeout"}),
    "sleep": ("def attack(*bait): time.sleep(1000)", {"timeout"}),
    "ignores_signals": (
        """
def attack(*bait):
    for number in range(1, 65):
        tried(number, signal.signal, number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    while True:
        try:
            while True: pass
        except BaseException: pass
""",
        {"timeout"},
    ),
    "uninterruptible_regex": ("import re\ndef attack(*bait): re.match('(a+)+$', 'a' * 60 + 'b')", {"timeout"}),
    "stdout_flood": ("def attack(*bait):\n    while True: sys.stdout.write('x' * 100000)", {"died", "timeout"}),
    "stderr_flood": ("def attack(*bait):\n    while True: os.write(2, b'x' * 100000)", {"died", "timeout"}),
    "deep_recursion": ("def deeper(): return deeper()\ndef attack(*bait): return deeper()", {"raised"}),
    "unbounded_recursion": (
        "sys.setrecursionlimit(1 << 30)\ndef attack(*bait): return repr(attack())",
        {"raised", "died", "timeout"},
    ),
    "nested_call_in_c": ("def attack(*bait):\n    x = []\n    for _ in range(10 ** 6): x = [x]\n    return x", {"unencodable"}),
    "segfault": ("def attack(*bait): ctypes.string_at(0)", {"died"}),
    "abort": ("def attack(*bait): os.abort()", {"died"}),
    "alarm": ("def attack(*bait):\n    signal.alarm(1)\n    time.sleep(30)", {"died"}),
    "exit": ("def attack(*bait): sys.exit(0)", {"raised"}),
    "interrupt": ("def attack(*bait): raise KeyboardInterrupt", {"raised"}),
    "hard_exit": ("def attack(*bait): os._exit(0)", {"died"}),
    "exit_while_loading": ("os._exit(0)", {"died"}),
    "raise_while_loading": ("raise SystemExit", {"load_failed"}),
    "syntax": ("def attack(:", {"load_failed"}),
    "null_bytes": ("x = '\\0'\n\0", {"load_failed"}),
    "huge_integer": ("def attack(*bait): return 1 << (1 << 26)", {"unencodable"}),
    "huge_string": ("def attack(*bait): return 'x' * (1 << 25)", {"unencodable"}),
    "many_values": ("def attack(*bait): return [0] * (1 << 20)", {"unencodable"}),
    "exponential_value": (
        "def attack(*bait):\n    x = []\n    for _ in range(60): x = [x, x]\n    return x",
        {"unencodable", "timeout"},
    ),
    "cycle": ("def attack(*bait):\n    x = []\n    x.append(x)\n    return x", {"unencodable"}),
    "infinite_generator": ("def attack(*bait):\n    while True: yield 1", {"unencodable"}),
    "infinite_iterator": ("import itertools\ndef attack(*bait): return itertools.count()", {"unencodable"}),
    "colliding_hashes": ("def attack(*bait): return {i * ((1 << 61) - 1) for i in range(1, 300)}", {"died"}),
    "module": ("def attack(*bait): return sys", {"unencodable"}),
    "function": ("def attack(*bait): return attack", {"unencodable"}),
    "hostile_object": (
        """
class Hostile:
    def __getattribute__(self, name): os._exit(0)
    __eq__ = __len__ = __iter__ = __repr__ = __str__ = __hash__ = __reduce__ = __bool__ = lambda *x: os._exit(0)
def attack(*bait): return Hostile()
""",
        {"unencodable"},
    ),
    "hostile_exception": (
        """
class Hostile(BaseException):
    def __str__(self): raise self
    __repr__ = __str__
def attack(*bait): raise Hostile
""",
        {"raised"},
    ),
    "hostile_type": (
        """
class Meta(type):
    def __getattribute__(cls, name): raise Exception
class Hostile(metaclass=Meta): pass
def attack(*bait): return Hostile()
""",
        {"unencodable"},
    ),
    "closes_the_wire": ("def attack(*bait):\n    os.close(3)\n    while True: pass", {"died", "timeout"}),
    "closes_everything": ("def attack(*bait):\n    os.closerange(0, 100)\n    return 1", {"died"}),
    "steals_the_wire": ("def attack(*bait):\n    os.dup2(0, 3)\n    return 1", {"died"}),
    "garbage_on_the_wire": ("def attack(*bait):\n    os.write(3, b'garbage' * 100)\n    time.sleep(5)", {"died"}),
    "endless_frame": (
        "def attack(*bait):\n    os.write(3, b'\\xff\\xff\\xff\\xff')\n    while True: os.write(3, b'x' * 65536)",
        {"died"},
    ),
    "reads_the_wire": ("def attack(*bait):\n    os.read(3, 1 << 16)", {"timeout"}),
    "deletes_modules": (
        "def attack(*bait):\n    for name in list(sys.modules): del sys.modules[name]\n    raise SystemError",
        {"raised", "died"},
    ),
    "deletes_builtins": (
        "import builtins\ndef attack(*bait):\n    builtins.__dict__.clear()\n    return 1",
        {"returned", "died", "raised"},
    ),
    "writes_memory": (
        "def attack(*bait):\n    ctypes.memset(id(sys.modules) - 64, 255, 4096)\n    sys.modules.clear()\n    return {}",
        {"died", "raised", "returned", "unencodable"},
    ),
    "finalizers": (
        "class Late:\n    def __del__(self):\n        while True: pass\nkept = Late()\ndef attack(*bait): os._exit",
        {"returned"},
    ),
    "machine_code": (
        """
import mmap
def attack(*bait):
    # int 0x80 with the number of fork in the table of 32-bit programs.
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(bytes.fromhex("b802000000cd80c3"))
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    time.sleep(60)
""",
        {"died"},
    ),
    "other_table": ("def attack(*bait):\n    libc.syscall(0x40000000 | 57)\n    time.sleep(60)", {"died"}),
}
"""Programs that end badly, and the statuses that are right for them."""


@pytest.mark.parametrize("name", DEADLY)
def test_bad_ends_have_their_status(name: str, sandbox: Sandbox, host: Any) -> None:
    """The status is the right one, it comes in time, and neither the host nor the next program feels anything."""
    program, wanted = DEADLY[name]
    begin = time.monotonic()
    with host.watched(sandbox):
        (outcome,) = sandbox.run(PRELUDE + program, [Call("attack", host.bait)], LIMITS)
    assert outcome.status in wanted, outcome
    assert outcome.tier is sandbox.tier
    assert len(outcome.output) <= LIMITS.output_bytes
    assert time.monotonic() - begin < LIMITS.wall + 5


def test_a_program_that_ended_answers_nothing_more(sandbox: Sandbox) -> None:
    """Calls after the fatal one have its status and say that they were not reached; calls before it keep their answers."""
    program = "import os\ndef f(x): return os._exit(3) if x == 2 else x"
    first, second, third = sandbox.run(program, [Call("f", (each,)) for each in (1, 2, 3)])
    assert (first.status, first.value) == ("returned", 1)
    assert (second.status, second.error) == ("died", "the process left with code 3")
    assert (third.status, third.error) == ("died", "not reached: the process left with code 3")
