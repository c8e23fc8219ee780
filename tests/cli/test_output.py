"""What commands print, and where."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

from dpoframe.cli import output


@dataclass(frozen=True)
class Point:
    """A dataclass to print."""

    x: float
    path: Path


def test_json_is_one_document_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json the document alone is on stdout: talk, and what libraries print, is on stderr."""
    with output.session(json=True):
        output.say("talk")
        sys.stdout.write("a library prints")
        output.emit({"points": [Point(float("nan"), Path("a/b"))], "set": {2, 1}, "inf": float("inf")}, "text")
    out, err = capsys.readouterr()
    assert json.loads(out) == {"points": [{"x": None, "path": "a/b"}], "set": [1, 2], "inf": None}
    assert "talk" in err
    assert "a library prints" in err


def test_text_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json the text is on stdout, its square brackets and long lines as they are, its control characters escaped."""
    line = "[bold]x[/bold] \x1b[31mred\x07 " + "w" * 300
    with output.session():
        output.emit({}, line)
        output.say(line)
    out, err = capsys.readouterr()
    assert out == err == "[bold]x[/bold] \\x1b[31mred\\x07 " + "w" * 300 + "\n"


def test_two_documents_are_refused() -> None:
    """A command that gives two JSON documents is a programming error."""
    with output.session(json=True):
        output.emit(1, "")
        with pytest.raises(RuntimeError, match="exactly one document"):
            output.emit(2, "")


def test_only_rank_0_gives_the_result(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the processes of a distributed run only the first gives the result."""
    monkeypatch.setenv("LOCAL_RANK", "1")
    with output.session(json=True):
        output.emit(1, "")
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("LOCAL_RANK", "0")
    with output.session(json=True):
        output.emit(1, "")
    assert capsys.readouterr().out == "1\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\nb\tc", "a\nb\tc"), ("\x1b[2J", "\\x1b[2J"), ("\r", "\\r"), ("\x9b", "\\x9b"), ("a\u202eb", "a\\u202eb"), ("é漢", "é漢")],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    """What could steer a terminal, or turn text around, is written out; other text is untouched."""
    assert output.escaped(text) == shown


def test_table_shows_cells_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Cells are neither markup nor cut off in a pipe."""
    with output.session():
        output.emit([], output.table(["a", "b"], [["[red]x", "y" * 200], [1, "\x1b"]]))
    out = capsys.readouterr().out
    assert "[red]x" in out
    assert "y" * 200 in out
    assert "\\x1b" in out


def test_warnings_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A warning inside a command is told as one line without its place in the code; with --debug Python shows it as ever."""
    with output.session(), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("the pairs are odd", RuntimeWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: the pairs are odd\n"
    with output.session(debug=True), pytest.warns(RuntimeWarning, match="odd"):
        warnings.warn("the pairs are odd", RuntimeWarning, stacklevel=1)
