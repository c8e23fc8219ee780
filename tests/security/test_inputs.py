r"""Hostile inputs, each given to the command line as a user would: exit code 2 or 3 (1 where `data check`
refuses some rows), one message, nothing run, nothing written.

Here stand those that would run code, leave a folder, or fill the memory through a command. Other hostile inputs are tested
where they belong, and are not repeated:

- 91 recipes and 10 `--set` (YAML tags, bombs, cycles, endless numbers, unknown keys): tests/config/test_hostile.py
- 60 damaged and odd data files, noise in every reader, 13 rows that name media: tests/data/test_hostile_files.py, test_media.py
- scripts, quotes, half characters and bidirectional marks in answers, in HTML, JUnit and Markdown: tests/harness/test_report.py,
  test_gate.py, test_characters.py, tests/test_card_samples.py
- endpoints that drip, never end, redirect, echo the key, or hold it in their address: tests/harness/test_endpoint_faults.py,
  test_backends.py, tests/builtin/test_judge.py
- checkpoints that are cut off, flipped, empty or a pickle: tests/test_checkpoint.py
- plugins that raise, exit, clash or lie at import: tests/plugins/test_host.py
- errors with escape sequences: tests/cli/test_failures.py
- pictures that are damaged, cut off or far too large, and addresses in their place: plugins/dpoframe-diffusion/tests
- models with code of their own or pickles: test_loading.py of dpoframe-text, test_saving.py and test_toxicity.py of
  dpoframe-moderation, test_similarity.py of dpoframe-summarization, test_frozen.py of dpoframe-diffusion
- programs that attack sandbox and verdict: plugins/dpoframe-code/tests/sandbox
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

Case: TypeAlias = Callable[[Any], list[str]]
"""Lays the input out on a `ground`, and gives the command's words."""

BOMB = "".join(f"k{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else 'x'] * 10)}]\n" for i in range(9))
PICKLE = b"cbuiltins\nopen\n(V%s\nVw\ntR."


def recipe(**changes: Any) -> Case:
    """`dpoframe config` on a recipe."""
    return lambda ground: ["config", ground.recipe(**changes)]


def trained(**changes: Any) -> Case:
    """`dpoframe train` on a recipe, with a file of code beside it."""

    def lay(ground: Any) -> list[str]:
        ground.code()
        return ["train", ground.recipe(**changes), "--out", "run"]

    return lay


def checked(rows: list[Any] | bytes, name: str = "rows.jsonl") -> Case:
    """`dpoframe data check` on a file."""
    return lambda ground: ["data", "check", str(ground.write(name, rows).relative_to(ground.home))]


def linked(target: str) -> Case:
    """The same where a picture beside the rows is a link."""

    def lay(ground: Any) -> list[str]:
        ground.write("b.png", b"b")
        (ground.home / "a.png").symlink_to(target)
        pictures = {"chosen": {"media": "image", "path": "a.png"}, "rejected": {"media": "image", "path": "b.png"}}
        return ["data", "check", str(ground.write("rows.jsonl", [{"prompt": "a cat", **pictures}]).relative_to(ground.home))]

    return lay


def opened(**record: Any) -> Case:
    """`dpoframe eval` on a model's folder whose record was changed, with a file of code in reach."""

    def lay(ground: Any) -> list[str]:
        ground.code()
        ground.code("model/evil.py")
        return ["eval", ground.model(**record), ground.suite()]

    return lay


def replaced(name: str, content: bytes | str) -> Case:
    """The same with a file of the model's folder replaced; `%s` in it is the trap."""

    def lay(ground: Any) -> list[str]:
        model = ground.model()
        ground.write(f"model/{name}", content.replace(b"%s", str(ground.trap).encode()) if isinstance(content, bytes) else content)
        return ["eval", model, ground.suite()]

    return lay


def suite(text: str = "", **keys: Any) -> Case:
    """`dpoframe eval` of a plain model on a suite."""
    return lambda ground: ["eval", ground.model(), ground.suite(text, **keys)]


CASES: dict[str, tuple[Case, int, list[str]]] = {
    # A recipe names parts; nothing in it is imported or fetched by a dotted path or an address.
    "recipe-dotted-path": (recipe(modality={"name": "os:system"}), 2, ["No modality is called 'os:system'"]),
    "recipe-dotted-class": (recipe(loss={"name": "subprocess.Popen"}), 2, ["No loss is called 'subprocess.Popen'"]),
    "recipe-target-key": (recipe(modality={"name": "toy", "_target_": "os.system"}), 2, ["modality._target_", "is no key here"]),
    "recipe-class-path": (recipe(reporters=[{"class_path": "os.system"}]), 2, ["reporters.0.name", "is required"]),
    "recipe-plugin-module": (recipe(plugins=["os"]), 2, ["No plugin is called 'os'"]),
    "recipe-file-address": (recipe(modality={"name": "https://evil.example/mine.py:Mine"}), 2, ["There is no file", "mine.py"]),
    "recipe-file-above": (recipe(modality={"name": "../../nowhere/evil.py:Evil"}), 2, ["There is no file", "/nowhere/evil.py"]),
    "recipe-own-code-of-a-model": (recipe(modality={"name": "toy", "trust_remote_code": True}), 2, ["trust_remote_code", "no key"]),
    "recipe-callbacks": (recipe(trainer={"lightning": {"callbacks": ["os.system"]}}), 2, ["callbacks", "is set by dpoframe"]),
    "recipe-root-dir": (recipe(trainer={"lightning": {"default_root_dir": "/tmp/x"}}), 2, ["default_root_dir", "set by dpoframe"]),
    "recipe-lightning-plugins": (trained(trainer={"max_steps": 1, "lightning": {"plugins": ["evil.Evil"]}}), 2, ["Trainer"]),
    "recipe-strategy": (trained(trainer={"max_steps": 1, "strategy": "evil.Evil"}), 2, ["invalid strategy name"]),
    "recipe-profiler": (trained(trainer={"max_steps": 1, "lightning": {"profiler": "evil.Evil"}}), 2, ["`profiler`", "'simple'"]),
    "recipe-steering-key": (recipe(**{"\x1b]0;owned\x07": 1}), 2, ["\\x1b]0;owned\\x07"]),
    "recipe-reversed-name": (recipe(name="run\u202egpj"), 2, ["name", "starting with a letter"]),
    "recipe-run-above": (recipe(name="../../etc"), 2, ["'../../etc'"]),
    "recipe-not-there": (lambda ground: ["config", "\x1b[2Jx.yaml"], 2, ["There is no file", "\\x1b[2Jx.yaml"]),
    # Data.
    "data-address": (lambda ground: ["data", "check", "http://169.254.169.254/latest/pairs.jsonl"], 2, ["169.254.169.254"]),
    "data-file-address": (lambda ground: ["data", "check", "file:///etc/passwd"], 2, ["file:/etc/passwd is neither a file"]),
    "data-link-out": (linked("/etc/hostname"), 2, ["media-outside", "link that leaves"]),
    "data-link-above": (linked("../../a.png"), 2, ["media-outside"]),
    "data-link-to-itself": (linked("a.png"), 2, ["media-outside"]),
    "data-link-to-home": (linked("/root"), 2, ["media-outside"]),
    "data-steering-rows": (
        checked(
            [
                {"prompt": "p", "chosen": "\x1b[2J\x9b31m", "rejected": "\u202e"},
                {"prompt": "\x1b]0;x\x07", "chosen": 3, "rejected": ""},
            ]
        ),
        1,  # some rows are usable
        ["wrong-type"],
    ),
    "data-steering-name": (checked([{"prompt": 1}], "\x1b]0;owned\x07.jsonl"), 2, ["\\x1b]0;owned\\x07"]),
    "data-pickle": (checked(PICKLE, "rows.pkl"), 2, ["rows.pkl"]),
    "data-deep": (checked(b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"), 2, ["rows.jsonl"]),
    "data-script": (lambda ground: ["data", "check", str(ground.code("set/set.py").parent)], 2, ["set"]),
    # A model from elsewhere: its record names no code, consents to none, and can be read or not.
    "model-file": (opened(modality="evil.py:EvilModality"), 2, ["names the Python file", "DPOFRAME_TRUST_FILES="]),
    "model-file-inside": (opened(modality="model/evil.py"), 2, ["names the Python file", "not run unasked"]),
    "model-dotted-path": (opened(modality="os:system"), 2, ["No modality is called 'os:system'"]),
    "model-no-word": (opened(modality=["toy"]), 2, ["dpoframe.json cannot be read"]),
    "model-fields": (opened(fields={"width": {"$ref": "x"}}), 2, ["dpoframe.json cannot be read", "width"]),
    "model-no-fields": (opened(fields=3), 2, ["dpoframe.json cannot be read"]),
    "model-huge": (opened(fields={"width": 10**12}), 3, ["memory does not suffice"]),
    "model-deep": (replaced("dpoframe.json", "[" * 100_000), 2, ["dpoframe.json cannot be read"]),
    "model-not-json": (replaced("dpoframe.json", "\x1b[31m{"), 2, ["dpoframe.json cannot be read"]),
    "model-pickled": (replaced("model.safetensors", PICKLE), 2, ["model.safetensors"]),
    "model-endless-header": (replaced("model.safetensors", struct.pack("<Q", 2**62) + b"{}"), 2, ["model.safetensors"]),
    "model-of-other-shapes": (replaced("model.safetensors", struct.pack("<Q", 2) + b"{}"), 2, ["model"]),
    # A suite.
    "suite-bomb": (suite(BOMB), 2, ["too much for a suite"]),
    "suite-tag": (suite("name: !!python/object/apply:os.system [true]\n"), 2, ["not valid YAML", "python/object"]),
    "suite-name-above": (suite(name="../../etc"), 2, ["name (suite.yaml:1)"]),
    "suite-steering-name": (suite(name="a\x1b[2J"), 2, ["name (suite.yaml:1)"]),
    "suite-dotted-path": (suite(evaluators=["os:system"]), 2, ["No evaluator is called 'os:system'"]),
    "suite-file-address": (suite(backend={"kind": "endpoint", "url": "file:///etc/passwd", "model": "m"}), 2, ["give an address"]),
    "suite-key": (suite(backend={"kind": "endpoint", "url": "http://x/v1", "model": "m", "api_key": "k" * 9}), 2, ["is a secret"]),
    "suite-key-for-its-name": (
        suite(backend={"kind": "endpoint", "url": "http://x/v1", "model": "m", "key_env": "sk-" + "a" * 30}),
        2,
        ["never the key itself"],
    ),
    "suite-no-prompts": (suite(prompts="../../nowhere.jsonl"), 2, ["nowhere.jsonl"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_input_is_refused(case: str, ground: Any, ended: Any) -> None:
    """The exit code is the expected one, the message says what is wrong, and what the input names is neither run nor written."""
    lay, code, fragments = CASES[case]
    words = lay(ground)
    written = {place for place, _, _ in os.walk(ground.home)}
    found = ended(*words)
    for fragment in fragments:
        assert fragment in found.said
    assert found.code == code
    # A refusal leaves no folder of results behind.
    assert {place for place, _, _ in os.walk(ground.home)} - written <= {f"{ground.home}/cache", f"{ground.home}/__pycache__"}


def test_there_are_at_least_forty() -> None:
    """The list is not shortened by accident."""
    assert len(CASES) >= 40


def test_code_that_is_trusted_runs(ground: Any, ended: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that the user names by an absolute path may hold code that a record names; a relative one is no consent."""
    monkeypatch.setenv("DPOFRAME_TRUST_FILES", ".")
    words = opened(modality="evil.py:EvilModality")(ground)
    assert "not run unasked" in ended(*words).said
    ground.write("evil.py", "from dpoframe.testing.toy import ToyModality\nclass EvilModality(ToyModality): pass\n")
    monkeypatch.setenv("DPOFRAME_TRUST_FILES", f"/nowhere{os.pathsep}{ground.home}")
    assert ended(*words).code == 0


def test_preferences_are_fine(ground: Any, ended: Any) -> None:
    """The rows and the recipe that the cases change are right themselves, so a refusal is of the change."""
    assert ended(*recipe()(ground)).code == 0
    assert ended("data", "check", "rows.jsonl").code == 0
    assert ended(*suite()(ground)).code == 0
