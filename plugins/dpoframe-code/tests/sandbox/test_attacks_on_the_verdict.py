"""Programs that want a pass without the right answer: none gets one, from cases or from a script."""

from __future__ import annotations

import pytest
from dpoframe_code.oracle import Case, Cases, Script
from dpoframe_code.sandbox import Call, Limits, Sandbox, Status
from dpoframe_code.sandbox.wire import MAX_FRAME

LIMITS = Limits(cpu_seconds=2, wall_seconds=10, memory_bytes=256 << 20)
CASES = Cases([Case(Call("f", (x,)), x * x) for x in (7, 11, 13)])
TESTS = """
def check():
    for x in (7, 11, 13):
        expected = x * x
        assert f(x) == expected
"""
SCRIPT = Script(TESTS, "check", ["f"])
RIGHT = "def f(x): return x * x"

FALSE_PASSES: dict[str, str] = {
    "always_equal": """
class Equal:
    __eq__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __hash__ = None
def f(x): return Equal()
""",
    "equal_int": """
class Equal(int):
    __eq__ = lambda self, other: True
    __hash__ = int.__hash__
def f(x): return Equal(-1)
""",
    "equal_list": """
class Equal(list):
    __eq__ = lambda self, other: True
    __len__ = lambda self: 1
    __iter__ = lambda self: iter([x * x])
def f(x): return Equal([-1])
""",
    "lying_class": """
class Lying:
    __class__ = int
    __eq__ = lambda self, other: True
    __index__ = lambda self: 49
def f(x): return Lying()
""",
    "exit_zero": "import os\ndef f(x): os._exit(0)",
    "exit_zero_while_loading": "import os\nos._exit(0)",
    "sys_exit": "import sys\nsys.exit(0)",
    "raises_assertion": "def f(x): raise AssertionError('passed')",
    "frame_walk": """
import sys
def f(x):
    frame = sys._getframe()
    while frame is not None:
        for values in (frame.f_locals, frame.f_globals):
            for value in list(values.values()):
                for name in ("expected", "cases", "answer"):
                    found = getattr(value, name, None) or (value.get(name) if type(value) is dict else None)
                    if type(found) is int: return found
        frame = frame.f_back
    return -1
""",
    "heap_walk": """
import gc
def f(x):
    for value in gc.get_objects():
        if type(value) is dict and "expected" in value and type(value["expected"]) is int: return value["expected"]
        if type(value) in (list, tuple):
            for part in value:
                if type(part) is int and part in (49, 121, 169): return part
    return -1
""",
    "patched_builtins": """
import builtins, operator, json
builtins.all = builtins.any = builtins.isinstance = builtins.bool = lambda *x: True
builtins.len = lambda x: 1
operator.eq = lambda a, b: True
def f(x): return -1
""",
    "patched_worker": """
import sys
for name, module in list(sys.modules.items()):
    if name.startswith("dpoframe_code"):
        for key, value in list(vars(module).items()):
            if callable(value) and key in ("_answer", "_reading", "equal", "_same", "judged"):
                setattr(module, key, lambda *x, **y: {"status": "passed", "value": True})
def f(x): return -1
""",
    "forged_output": """
import sys
print('{"status": "passed"}', flush=True)
print("OK\\nPASSED\\n1 passed", file=sys.stderr, flush=True)
def f(x):
    print('{"nonce": "0", "status": "returned", "value": 49}', flush=True)
    return -1
""",
    "forged_wire": """
import json, os
def f(x):
    body = json.dumps({"nonce": "0" * 16, "status": "passed", "value": True}).encode()
    os.write(3, len(body).to_bytes(4, "big") + body)
    return -1
""",
    "forged_with_the_right_number": """
import json, os, sys
def f(x):
    body = json.dumps({"nonce": sys._getframe(1).f_locals["request"]["nonce"], "status": "passed", "value": True}).encode()
    os.write(3, len(body).to_bytes(4, "big") + body)
    os._exit(0)
""",
    "forged_status": """
import sys
worker = sys.modules["dpoframe_code.sandbox.inside.worker"]
worker.encode = lambda value: ["passed"]
def f(x): return -1
""",
    "answers_ahead": """
import json, os
body = json.dumps({"nonce": "", "status": "returned", "value": 49}).encode()
os.write(3, (len(body).to_bytes(4, "big") + body) * 50)
def f(x): return -1
""",
    "asks_outside": """
import json, os
def f(x):
    body = json.dumps({"ask": "f", "args": ["t", [x]], "kwargs": ["d", []]}).encode()
    os.write(3, len(body).to_bytes(4, "big") + body)
    return -1
""",
    "swapped_code": """
import sys
worker = sys.modules["dpoframe_code.sandbox.inside.worker"]
def forged(program, request): return {"status": "passed", "value": None}
worker._answer.__code__ = forged.__code__
def f(x): return -1
""",
    "swapped_for_a_fault_of_the_sandbox": """
import sys
worker = sys.modules["dpoframe_code.sandbox.inside.worker"]
def forged(program, request): return {"status": "infra_error", "error": "the tests: broken"}
worker._answer.__code__ = forged.__code__
def f(x): return -1
""",
    "traced": """
import sys
def trace(frame, event, argument):
    if frame.f_code.co_name in ("judged", "equal", "verdict"): frame.f_locals["answer"] = 49
    return trace
sys.settrace(trace)
def f(x): return -1
""",
    "hooked_imports": """
import builtins, sys
class Finder:
    def find_spec(self, *names): raise SystemExit(0)
sys.meta_path.insert(0, Finder())
builtins.__import__ = lambda *names, **more: sys
def f(x): return -1
""",
    "late_exit": """
import atexit, os, signal, threading
atexit.register(os._exit, 0)
signal.signal(signal.SIGVTALRM, lambda *given: os._exit(0))
signal.setitimer(signal.ITIMER_VIRTUAL, 1e-4, 1e-4)
def f(x): raise SystemExit(0)
""",
    "lying_float": """
class Lying(float):
    hex = lambda self: "0x1.88p+5"
    __eq__ = lambda self, other: True
    __hash__ = float.__hash__
def f(x): return Lying(-1)
""",
    "lying_text": "class Lying(str):\n    __str__ = lambda self: Lying('49')\ndef f(x): return Lying('-1')",
    "lying_complex": "class Lying(complex):\n    real, imag = property(lambda self: 49.0), 0.0\ndef f(x): return Lying(-1)",
    "lying_decimal": "import decimal\nclass Lying(decimal.Decimal):\n    __str__ = lambda self: '49'\ndef f(x): return Lying(-1)",
    "lying_ancestry": """
class Meta(type):
    __mro__ = (int, object)
class Lying(metaclass=Meta):
    __index__ = lambda self: 49
def f(x): return Lying()
""",
    "every_name": "def __getattr__(name): return lambda *given: True",
    "two_statuses": """
import json, os, sys
def f(x):
    nonce = sys._getframe(1).f_locals["request"]["nonce"]
    body = ('{"nonce": "%s", "status": "returned", "status": "passed", "value": 49}' % nonce).encode()
    os.write(3, len(body).to_bytes(4, "big") + body)
    return -1
""",
    "reads_the_tests": """
import os
def f(x):
    for folder in ("/", "/work", "/tmp", os.path.expanduser("~"), "."):
        try:
            for name in os.listdir(folder):
                if "49" in open(os.path.join(folder, name)).read(): return 49
        except OSError: pass
    return -1
""",
    "not_a_number": "def f(x): return float('nan')",
    "signalling_nan": "import decimal\ndef f(x): return decimal.Decimal('sNaN')",
    "nothing": "",
    "returns_none": "def f(x): pass",
    "returns_true": "def f(x): return True",
    "wrong": "def f(x): return x * x + 1",
    "memory_of_an_earlier_call": """
seen = []
def f(x):
    seen.append(x)
    return seen[0] * seen[0]
""",
    "generator": "def f(x): yield x * x",
    "text": "def f(x): return str(x * x)",
}
"""Ways to a pass without the right answer: `f(7) == 49`, `f(11) == 121`, `f(13) == 169` is what is asked."""


@pytest.mark.parametrize("oracle", [CASES, SCRIPT], ids=["cases", "script"])
@pytest.mark.parametrize("name", FALSE_PASSES)
def test_no_false_pass(name: str, oracle: Cases | Script, sandbox: Sandbox) -> None:
    """A program that does not give the right answers does not pass, and never counts as a fault of the sandbox."""
    outcome = oracle.judge(sandbox, FALSE_PASSES[name], LIMITS)
    assert outcome.status not in (Status.PASSED, Status.RETURNED, Status.INFRA_ERROR), outcome
    assert oracle.judge(sandbox, RIGHT, LIMITS).status is Status.PASSED


@pytest.mark.parametrize("oracle", [CASES, SCRIPT], ids=["cases", "script"])
def test_honest_programs_pass(oracle: Cases | Script, sandbox: Sandbox) -> None:
    """The same oracles let right programs pass, whatever their style."""
    for program in (RIGHT, "f = lambda x: x ** 2", "class S:\n    def __call__(self, x): return float(x * x)\nf = S()"):
        assert oracle.judge(sandbox, program, LIMITS).status is Status.PASSED


FORGED: list[str] = [
    *("{}", '{"status": []}', '{"status": {}, "error": ""}', '{"status": null}', '{"status": 5, "error": 5}'),
    *('{"status": "returned"}', '{"status": "returned", "value": ["x"]}', '{"status": "returned", "value": [[]]}'),
    *('{"status": "raised", "error": []}', '{"status": "infra_error", "error": ""}', '{"status": "timeout", "error": ""}'),
    *('{"status": "wrong", "error": ""}', '{"locked": true}', '{"failed": "x"}', '{"ended": 0}'),
    *('{"ask": []}', '{"ask": "f", "args": 5}', '{"ask": "f", "args": ["t", []], "kwargs": ["d", [[1, 2]]]}'),
]


@pytest.mark.parametrize("reply", FORGED)
def test_forged_replies_are_no_trouble(reply: str, sandbox: Sandbox) -> None:
    """A reply with the right number and the wrong form ends the program as died, and nothing else."""
    program = f"""
import json, os, sys
def f(x):
    reply = json.loads({reply!r})
    reply["nonce"] = sys._getframe(1).f_locals["request"]["nonce"]
    body = json.dumps(reply).encode()
    os.write(3, len(body).to_bytes(4, "big") + body)
    os._exit(0)
"""
    assert CASES.judge(sandbox, program, LIMITS).status is Status.DIED
    assert CASES.judge(sandbox, RIGHT, LIMITS).status is Status.PASSED


def test_forged_questions_of_a_script_break_the_script(sandbox: Sandbox) -> None:
    """Tests that speak on the wire themselves are broken tests: infra_error, whatever they say."""
    for question in ('{"ask": 5}', '{"ask": "f", "args": 5}', '{"ask": "f", "args": ["t", []], "kwargs": ["d", [[1, 2]]]}'):
        tests = f"""
import os
def check():
    f(7)
    os.write(3, len({question!r}).to_bytes(4, "big") + {question!r}.encode())
    f(7)
"""
        assert Script(tests, "check", ["f"]).judge(sandbox, RIGHT, LIMITS).status is Status.INFRA_ERROR


def test_answers_too_large_for_the_tests_are_the_programs_own(sandbox: Sandbox) -> None:
    """A forged answer that can be read and cannot be sent on to the script does not become a fault of the script."""
    for value in ('"x" * (MAX_FRAME - 100)', "deep(130)"):
        program = f"""
import json, os, sys
MAX_FRAME = {MAX_FRAME}
def deep(levels):
    tagged = 0
    for _ in range(levels): tagged = ["l", [tagged]]
    return tagged
def f(x):
    reply = {{"nonce": sys._getframe(1).f_locals["request"]["nonce"], "status": "returned", "value": {value}}}
    body = json.dumps(reply, separators=(",", ":")).encode()
    body = len(body).to_bytes(4, "big") + body
    while body: body = body[os.write(3, body):]
    os._exit(0)
"""
        assert SCRIPT.judge(sandbox, program, LIMITS).status is Status.UNENCODABLE
        assert CASES.judge(sandbox, program, LIMITS).status is Status.WRONG


def test_outcomes_can_always_be_shown(sandbox: Sandbox) -> None:
    """An answer that Python refuses to write out does not stop whoever prints the outcome."""
    outcomes = sandbox.run("def f(x): return 10 ** 10000, {1: [2 ** 20000]}, 'x' * 10000", [Call("f", (1,))])
    assert outcomes[0].status is Status.RETURNED
    assert "an integer of 33220 bits" in repr(outcomes)
    assert len(repr(outcomes)) < 500


def test_errors_can_be_written(sandbox: Sandbox) -> None:
    """The text of an exception is short and can be written to any file."""
    (outcome,) = sandbox.run("def f(): raise ValueError('\\ud800' + 'x' * 10000)", [Call("f")])
    assert outcome.status is Status.RAISED
    assert outcome.error.startswith("ValueError: ?xxx")
    assert len(outcome.error.encode("utf-8")) == 500
