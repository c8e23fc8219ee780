"""From errors to messages and exit codes."""

from __future__ import annotations

import errno
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from dpoframe import ConfigError, DataError, Fault, MachineError, MissingExtraError, TrainingError, cli
from dpoframe.cli import main
from dpoframe.cli.termination import Terminated


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


def wrapped() -> Exception:
    """A full disk as a library reports it: its own error, raised from the system's."""
    error = RuntimeError("could not save")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device", "model.ckpt")
    return error


ERRORS: dict[str, tuple[BaseException, int, str]] = {
    "config": (
        ConfigError("two faults:", [Fault("a.b (line 3)", "is wrong.", "Mend it.")]),
        2,
        "- a.b (line 3): is wrong. Mend it.",
    ),
    "data": (DataError("no rows"), 2, "error: no rows"),
    "training": (TrainingError("loss is NaN"), 1, "error: loss is NaN"),
    "machine": (MachineError("no sandbox"), 3, "error: no sandbox"),
    "extra": (MissingExtraError("The reporter wandb", "wandb", "pip install dpoframe[wandb]"), 3, "pip install dpoframe[wandb]"),
    "permission": (PermissionError(errno.EACCES, "denied", "/root/x"), 3, "No permission: /root/x. Change the"),
    "full": (OSError(errno.ENOSPC, "full", "out"), 3, "The disk is full: out"),
    "read-only": (OSError(errno.EROFS, "ro", "out"), 3, "read-only: out"),
    "wrapped-full": (wrapped(), 3, "The disk is full: model.ckpt"),
    "torch-full": (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"), 3, "disk is full"),
    "safetensors-full": (Exception("Error while serializing: I/O error: No space left on device (os error 28)"), 3, "disk is full"),
    "memory": (MemoryError(), 3, "trainer.tokens_per_batch"),
    "gpu-memory": (OutOfMemoryError("CUDA out of memory. Tried ..."), 3, "trainer.tokens_per_batch"),
    "missing-file": (FileNotFoundError(errno.ENOENT, "no", "x.jsonl"), 2, "No such file or directory: x.jsonl"),
    "internal": (
        ZeroDivisionError("division by zero"),
        1,
        "internal error: ZeroDivisionError: division by zero (run again with --debug",
    ),
    "control": (DataError("row \x1b]0;owned\x07"), 2, "row \\x1b]0;owned\\x07"),
    "interrupt": (KeyboardInterrupt(), 130, "Interrupted"),
    "abort": (typer.Abort(), 130, "Interrupted"),
    "exit-of-a-signal": (SystemExit(143), 143, "exit code 143"),
    "exit-of-a-plugin": (SystemExit(7), 1, "a plugin or a library ended the program (SystemExit: 7)"),
    "exit-as-if-done": (SystemExit(0), 1, "ended the program"),
    "terminated": (Terminated(), 143, "run the same command again"),
    "hung-up": (Terminated(signal.SIGHUP), 129, "run the same command again"),
    "allocator": (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ..."), 3, "trainer.tokens_per_batch"),
    "long-name": (OSError(errno.ENAMETOOLONG, "long", "x" * 300), 2, "File name too long"),
    "exit-text": (SystemExit("bye"), 1, "bye"),
    "verb-handled-interrupt-exit": (typer.Exit(130), 130, ""),
    "typer-exit": (typer.Exit(5), 5, ""),
}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """Makes `dpoframe train x` raise what is put in the list."""
    raised: list[BaseException] = []
    build = cli.application

    def application() -> typer.Typer:
        app = build()

        @app.command("train")
        def train(recipe: str) -> None:
            raise raised[0]

        return app

    monkeypatch.setattr(cli, "application", application)
    return raised  # type: ignore[return-value]


@pytest.mark.parametrize("case", ERRORS)
def test_message_and_code(case: str, failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    """A user's mistake ends with 2, a lack of the machine with 3, an interrupt with 130; the message is on stderr, no traceback."""
    error, code, fragment = ERRORS[case]
    failing.append(error)
    assert main(["train", "x"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert fragment in err
    assert (err == "") == (fragment == "")
    assert "Traceback" not in err


@pytest.mark.parametrize("case", [case for case in ERRORS if "exit" not in case])
def test_json_error(case: str, failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    """With --json the failure is a document too, with the same exit code."""
    error, code, _ = ERRORS[case]
    failing.append(error)
    assert main(["train", "x", "--json"]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["error"]["exit_code"] == code
    assert document["error"]["message"]
    if case == "config":
        assert document["error"]["faults"] == [{"where": "a.b (line 3)", "message": "is wrong.", "fix": "Mend it."}]


@pytest.mark.parametrize("raised", ["RuntimeError('boom')", "SystemExit(0)"])
def test_failing_plugin_code_is_named(raised: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What plugin code raises is told with its file and line, ends with 2, and is no internal error."""
    (tmp_path / "odd.py").write_text(
        "from dpoframe.testing.toy import ToyModality\n"
        "class Odd(ToyModality):\n"
        "    def __post_init__(self):\n"
        f"        raise {raised}\n"
    )
    recipe = tmp_path / "r.yaml"
    recipe.write_text("modality: ./odd.py:Odd\ndata: {name: jsonl, path: x.jsonl}\n")
    assert main(["config", str(recipe)]) == 2
    err = capsys.readouterr().err
    assert f"{tmp_path / 'odd.py'}:4" in err
    assert "internal error" not in err


def test_debug_shows_the_traceback(failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    """--debug adds the traceback, and changes no exit code."""
    failing.append(ZeroDivisionError("oh"))
    assert main(["train", "x", "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "raise raised[0]" in err


def test_interrupted_training_says_how_to_go_on(failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    """After Ctrl-C the user reads that the run can be resumed."""
    failing.append(KeyboardInterrupt())
    assert main(["train", "x"]) == 130
    assert "--resume" in capsys.readouterr().err


def test_failure_after_the_result_keeps_one_document(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that fails after its document adds no second one."""
    build = cli.application

    def application() -> typer.Typer:
        app = build()

        @app.command("late")
        def late() -> None:
            cli.output.emit({"result": 1}, "")
            raise DataError("late")

        return app

    monkeypatch.setattr(cli, "application", application)
    assert main(["late", "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out) == {"result": 1}
    assert "late" in err


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["recipse"], "Did you mean 'recipes'"),
        (["recipes", "--jsn"], "--json"),
        (["config", "x", "--sett", "a=1"], "--set"),
        (["--versoin"], "--version"),
        (["recipes", "extra"], "extra"),
        (["config", "x", "--set"], "--set"),
        (["plugins", "chek"], "'check'"),
        (["data"], "data needs one of its verbs"),
    ],
)
def test_usage_errors(words: list[str], fragment: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped verb or option ends with 2, suggests the nearest and names the help."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert fragment in err
    assert "--help" in err
