"""What a durable write replaces, what it refuses to replace, and what it leaves beside."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dpoframe.checkpoint.durable import durable, sweep_asides
from dpoframe.cli import main
from dpoframe.errors import ConfigError, DataError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and links are those of POSIX")


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_what_is_no_file_stays(pipe: Path, tmp_path: Path) -> None:
    """Neither a pipe, nor a link to one, nor a folder gives way to a file, and nothing is left beside them."""
    (tmp_path / "link").symlink_to(pipe)
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "link", "folder"):
        with pytest.raises(ConfigError, match="not a regular file"), durable(tmp_path / name):
            pytest.fail("it was opened")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["folder", "link", "pipe"]


def test_verbs_refuse_what_is_no_file(pipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`report` and `generate` end with 2 before they read anything, and the pipe is still one."""
    for words in (["report", str(tmp_path)], ["generate", str(tmp_path), str(tmp_path / "prompts.jsonl")]):
        assert main([*words, "--out", str(pipe)]) == 2
        assert "not a regular file" in capsys.readouterr().err
        assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [one.name for one in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("there", [True, False])
def test_the_file_behind_a_link_is_written(there: bool, tmp_path: Path) -> None:
    """A link stays a link, and what it leads to gets the new content, whether it was there or not."""
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "file", tmp_path / "link"
    if there:
        target.write_text("old")
    link.symlink_to(target)
    with durable(link) as file:
        file.write(b"new")
    assert (link.is_symlink(), target.read_text()) == (True, "new")


@pytest.mark.parametrize("error", [DataError("a row is wrong"), KeyboardInterrupt()])
def test_nothing_is_left_beside(error: BaseException, tmp_path: Path) -> None:
    """Whatever ends the writing, an error of ours or Ctrl-C, the old file stays and no half one lies beside it."""
    (tmp_path / "file").write_text("old")

    def broken_off() -> bytes:
        raise error

    with pytest.raises(type(error)), durable(tmp_path / "file") as file:
        file.write(b"new" if not file.write(b"n") else broken_off())
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_what_a_killed_write_left_is_swept(tmp_path: Path) -> None:
    """Half files of the same target go where their process is gone; those of a live one, and of other targets, stay."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone, alive = ended.pid, os.getppid()
    names = {f".a.{gone}.aside", f".a.{alive}.aside", f".b.{gone}.aside", ".a.more.aside", f".a.b.{gone}.aside"}
    for name in names:
        (tmp_path / name).touch()
    sweep_asides(tmp_path / "a")
    assert {one.name for one in tmp_path.iterdir()} == names - {f".a.{gone}.aside"}
