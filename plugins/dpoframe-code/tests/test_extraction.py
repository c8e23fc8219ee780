"""Programs in answers: every rule, what is kept and what is cut, and answers that mean harm."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from dpoframe_code.extraction import Rule, extract
from dpoframe_code.extraction.fences import blocks
from hypothesis import given, settings
from hypothesis import strategies as st

STARTER = (
    'from typing import List\n\n\ndef half(x):\n    return x / 2\n\n\ndef mid(xs: List[float]) -> float:\n    """The middle."""\n'
)
WHOLE = "def mid(xs):\n    return half(sum(xs))"
BODY = "    total = sum(xs)\n    return half(total)"


def ran(program: str) -> object:
    """What a program of these tests' own answers for [1, 3]."""
    names: dict[str, object] = {}
    exec(program, names)
    return names["mid"]([1, 3])  # type: ignore[operator]


CHAT = {
    "fenced": (f"Sure:\n\n```python\n{WHOLE}\n```\nIt adds.", Rule.FENCED),
    "tag in capitals": (f"```Python\n{WHOLE}\n```", Rule.FENCED),
    "no tag": (f"```\n{WHOLE}\n```", Rule.FENCED),
    "tag with more": (f'```python title="mid.py"\n{WHOLE}\n```', Rule.FENCED),
    "wrong tag": (f"```text\n{WHOLE}\n```", Rule.FENCED),
    "tildes": (f"~~~py\n{WHOLE}\n~~~", Rule.FENCED),
    "longer fence": (f"````python\n{WHOLE}\n````", Rule.FENCED),
    "windows": (f"```python\n{WHOLE}\n```\n".replace("\n", "\r\n"), Rule.FENCED),
    "in a list": ("1. Do:\n\n   ```python\n   def mid(xs):\n       return half(sum(xs))\n   ```\n", Rule.FENCED),
    "in a quote": ("> ```python\n> def mid(xs):\n>     return half(sum(xs))\n> ```\n", Rule.FENCED),
    "fence in a string": (f"```python\nMARK = '''\n a ``` b\n'''\n{WHOLE}\n```", Rule.FENCED),
    "opened twice": (f"```\n```python\n{WHOLE}\n```", Rule.FENCED),
    "unclosed": (f"Here:\n```python\n{WHOLE}\n", Rule.UNCLOSED),
    "cut off behind": (f"```python\n{WHOLE}\n\nprint(mid([1,", Rule.UNCLOSED),
    "prose in the fence": (f"```python\n{WHOLE}\n\nThis works because it's a sum.\n```", Rule.FENCED),
    "shell first": (f"```bash\npip install x\n```\n\n```python\n{WHOLE}\n```", Rule.FENCED),
    "prompt again, then whole": (f"```python\n{STARTER}\n    pass\n```\nSo:\n```python\n{WHOLE}\n```", Rule.FENCED),
    "helper in its own block": (
        "First\n```python\ndef add(xs):\n    return sum(xs)\n```\nthen\n```python\ndef mid(xs):\n    return half(add(xs))\n```",
        Rule.FENCED,
    ),
    "helper behind": (
        "```python\ndef mid(xs):\n    return half(add(xs))\n```\nwith\n```python\ndef add(xs):\n    return sum(xs)\n```",
        Rule.FENCED,
    ),
    "usage behind": (f"```python\n{WHOLE}\n\nprint(mid([]))\nassert mid([1]) == 7\nx = mid('')\n```", Rule.FENCED),
    "main": (f"```python\n{WHOLE}\n\nif __name__ == '__main__':\n    print(mid(input()))\n```", Rule.FENCED),
    "method": ("```python\nclass Solution:\n    def mid(self, xs):\n        return sum(xs) / 2\n```", Rule.FENCED),
    "lambda": ("```python\nmid = lambda xs: half(sum(xs))\n```", Rule.FENCED),
    "decorated": (f"```python\nimport functools\n\n@functools.wraps(half)\n{WHOLE}\n```", Rule.FENCED),
    "future": (f"```python\nfrom __future__ import annotations\n\n{WHOLE}\n```", Rule.FENCED),
    "transcript": (">>>\n```python\n>>> def mid(xs):\n...     return half(sum(xs))\n...\n```", Rule.FENCED),
    "body": (f"```python\n{BODY}\n```", Rule.FENCED_CONTINUATION),
    "body without indentation": (
        "```python\ntotal = sum(xs)\nfor x in []:\n    pass\nreturn half(total)\n```",
        Rule.FENCED_CONTINUATION,
    ),
    "body whose result has the name": ("```python\n    mid = sum(xs)\n    return half(mid)\n```", Rule.FENCED_CONTINUATION),
    "plain": (WHOLE, Rule.UNFENCED),
    "plain, prose behind": (f"{WHOLE}\n\nThat's it, isn't it?", Rule.UNFENCED),
    "prose around": (f"Here you are.\n\n{WHOLE}\n\nThat's all.", Rule.REGION),
    "indented prose": (f"Well,\n\n    {WHOLE.replace(chr(10), chr(10) + '    ')}\n\nThat's all.", Rule.REGION),
    "thought": (f"<think>```python\ndef mid(xs): return 0\n```</think>\n```python\n{WHOLE}\n```", Rule.FENCED),
    "end mark": (f"```python\n{WHOLE}\n```<|im_end|>\n```python\ndef mid(xs): return 0\n```", Rule.FENCED),
    "bare body": (BODY, Rule.CONTINUATION),
}
BASE = {
    "continuation": (BODY, Rule.CONTINUATION),
    "runs on": (f"{BODY}\n\n\ndef other():\n    retu", Rule.CONTINUATION),
    "runs on with prints": (f"{BODY}\n\nprint(mid([]))\n", Rule.CONTINUATION),
    "runs on with a fence": (f"{BODY}\n```\nThis function", Rule.CONTINUATION),
    "first indentation lost": (BODY.lstrip(), Rule.CONTINUATION),
    "all indentation lost": ("total = sum(xs)\nreturn half(total)", Rule.CONTINUATION),
    "inner function": ("    def add(ys):\n        return sum(ys)\n    return half(add(xs))", Rule.CONTINUATION),
    "whole": (f"\n\n{WHOLE}\n", Rule.UNFENCED),
    "whole with a helper": (
        f"import math\n\n\ndef add(xs):\n    return math.fsum(xs)\n\n\n{WHOLE.replace('sum', 'add')}",
        Rule.UNFENCED,
    ),
    "in a fence": (f"Sure.\n```python\n{WHOLE}\n```", Rule.FENCED),
    "end mark": (f"{BODY}<|endoftext|>import os", Rule.CONTINUATION),
}


@pytest.mark.parametrize("name", CHAT)
def test_answers_in_chat(name: str) -> None:
    """Code is found wherever a chat model puts it, with the problem's imports and helpers, by the rule that is named."""
    text, rule = CHAT[name]
    found = extract(text, "mid", STARTER)
    assert found.rule is rule
    assert found.compiles
    assert ran(found.program) == 2


@pytest.mark.parametrize("name", BASE)
def test_answers_of_base_models(name: str) -> None:
    """A continuation ends at a stop word, and an answer that begins anew is taken as it is."""
    text, rule = BASE[name]
    found = extract(text, "mid", STARTER, base=True)
    assert found.rule is rule
    assert ran(found.program) == 2


def test_literal_continuation_is_not_touched() -> None:
    """A continuation without a stop word is the prompt and the answer, byte for byte, as benchmarks run it."""
    assert extract(f"{BODY}\n", "mid", STARTER, base=True).program == f"{STARTER}{BODY}\n"


@pytest.mark.parametrize("text", ["", " \n\t", "I cannot.", "```python\n```", "<think>def mid(xs): return 1</think>", "Sure"])
def test_no_code(text: str) -> None:
    """An answer without code gives an empty program, which is none that compiles."""
    found = extract(text, "mid", STARTER)
    assert (found.program, found.rule, found.compiles) == ("", Rule.NOTHING, False)


def test_code_that_is_not_the_answer() -> None:
    """Code that defines another function, or is no Python, is kept to be run: its status is telling."""
    other = extract("```python\ndef average(xs):\n    return 1\n```", "mid", STARTER)
    assert (other.rule, other.compiles) == (Rule.UNFINISHED, True)
    assert "average" in other.program
    broken = extract("```python\ndef mid(xs:\n    return 1\n```", "mid", STARTER)
    assert (broken.rule, broken.compiles) == (Rule.UNFINISHED, False)
    assert extract("    return half(", "mid", STARTER, base=True).program == f"{STARTER}    return half("


def test_settings_at_the_top_are_kept() -> None:
    """What tries a function out is left out; what it needs to run is not, also where it is a call."""
    code = "import sys\nsys.setrecursionlimit(5000)\nTABLE = [1, 2]\nfor i in range(3):\n    TABLE.append(i)\n" + WHOLE
    program = extract(f"```python\n{code}\nprint(mid(TABLE))\n```", "mid", STARTER).program
    assert "setrecursionlimit" in program
    assert "TABLE.append" in program
    assert "print" not in program


def test_first_of_two_answers() -> None:
    """Of two blocks that answer, the first is taken: which one is meant is not for the tests to choose."""
    text = f"```python\n{WHOLE}\n```\nor, faster:\n```python\ndef mid(xs):\n    return 0\n```"
    assert ran(extract(text, "mid", STARTER).program) == 2


def test_future_imports_come_first() -> None:
    """`from __future__` stays at the top, before the problem's own imports: Python takes it nowhere else."""
    program = extract(f"```python\nfrom __future__ import annotations\nimport math\n{WHOLE}\n```", "mid", STARTER).program
    assert ast.parse(program).body[0].module == "__future__"  # type: ignore[attr-defined]
    compile(program, "program", "exec")


def test_what_shares_a_line_is_left_alone() -> None:
    """A trial is taken out with its line only where nothing else stands in it."""
    program = extract(
        "```\nimport math; print(math.pi)\ndef mid(xs):\n    return math.floor(2.5)\nprint(mid([1]))\n```", "mid"
    ).program
    assert "import math; print(math.pi)" in program
    assert "print(mid" not in program
    assert ran(program) == 2


def test_long_thoughts_hide_no_answer() -> None:
    """What a model thought before its answer is left out first, however long it is."""
    assert ran(extract("so " * 200_000 + f"</think>\n```python\n{WHOLE}\n```", "mid", STARTER).program) == 2


def test_blocks_tell_tag_and_end() -> None:
    """Tags are words in lower case without what surrounds them; only a block without an end is not closed."""
    found = blocks("```{.python}\na\n```\n```language-py\nb\n```\n```\nc")
    assert [(one.code, one.tag, one.closed) for one in found] == [("a", "python", True), ("b", "py", True), ("c", "", False)]


HARM = {
    "brackets": "x = " + "(" * 10_000,
    "signs": "x = " + "-" * 100_000 + "1",
    "attributes": "x = a" + ".b" * 90_000,
    "lambdas": "x = " + "lambda:" * 28_000 + "1",
    "sum": "x = " + "+".join(["1"] * 95_000),
    "digits": "x = " + "9" * 199_000,
    "fences": "```\n" * 40_000,
    "ligatures": "\ufb01 = 1\n" * 30_000,
    "definitions": "def mid(xs):\n return 1\n(\n" * 8_000,
    "elif": "def mid(x):\n    if x: pass\n" + "    elif x: pass\n" * 9_000 + "    return 1\n",
    "nul": "def mid(xs):\n    return 1\0",
    "half a character": 'def mid(xs):\n    return "\ud800"',
    "millions": "x" * 5_000_000,
    "signatures": "def mid(xs): pass\n" * 12_000,
    "statements": "a = 1\n" * 33_000 + "(",
    "dotted import": "import a" + ".b" * 99_000,
    "stray returns": "def mid(xs):\n    return 1\n" + "return 2\n" * 20_000,
}


def test_harmful_answers() -> None:
    """No answer brings the process down, or holds it for long: each is read in seconds, in a process of its own."""
    code = "import test_harm as t; [t.extract(text, 'mid', t.STARTER, base=base) for text in t.HARM.values() for base in (0, 1)]"
    load = f"import importlib.util as u, sys; s = u.spec_from_file_location('test_harm', {__file__!r}); m = u.module_from_spec(s)"
    load += "; sys.modules['test_harm'] = m; s.loader.exec_module(m)"
    done = subprocess.run([sys.executable, "-c", f"{load}\n{code}"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["```", "python\n", "\n", "    ", WHOLE, BODY, "def ", "mid", ":", "(", "return 1", "so ", "'''", "#"])
    )
)
def test_whatever_is_answered(parts: list[str]) -> None:
    """Any mixture of code, fences and prose gives a program and a rule; no error, and the same again."""
    text = "".join(parts)
    for base in (True, False):
        found = extract(text, "mid", STARTER, base=base)
        assert found == extract(text, "mid", STARTER, base=base)
        assert (found.rule is Rule.NOTHING) == (found.program == "")


def test_invalid_escapes_are_no_errors() -> None:
    r"""A "\d" outside of a raw string is Python, also where warnings are errors."""
    assert extract('```python\nimport re\ndef mid(xs):\n    return 2 if re.match("\\d", "1") else 0\n```', "mid").compiles
