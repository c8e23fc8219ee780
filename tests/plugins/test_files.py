"""A part in a single file works wherever a name does."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from dpoframe import ConfigError, PluginError, UnknownNameError
from dpoframe.plugins import PluginHost

MINE = dedent("""
    from __future__ import annotations
    from dataclasses import dataclass
    from dpoframe import Loss, PreferencePair, hookimpl

    @dataclass(frozen=True)
    class Mine(Loss):
        beta: float = 0.5
        def __call__(self, scores):
            return -self.beta * scores.chosen_logratio

    def pairs(count: int = 1):
        return [PreferencePair("q", "good", "bad")] * count

    @hookimpl
    def dpoframe_pair_metrics(step):
        return {"seen": step}
""")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A file with a loss, a data set and a run hook."""
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    return file


def test_absolute_and_relative(isolated_host: PluginHost, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The class is had by its absolute path, by a path from the working folder, and without :Name where it is the only one."""
    monkeypatch.chdir(mine.parent)
    found = isolated_host.get("loss", f"{mine}:Mine")
    assert found.__name__ == "Mine"
    assert isolated_host.get("loss", "./mine.py:Mine") is found
    assert isolated_host.get("loss", "./mine.py") is found
    assert isolated_host.get("dataset", "mine.py:pairs")(2)[0].chosen == "good"


def test_owner_and_run_hooks(isolated_host: PluginHost, mine: Path) -> None:
    """The file is the plugin that owns its parts, and its run hooks take part in the run."""
    owner = isolated_host.owner("loss", f"{mine}:Mine")
    assert (owner.name, owner.origin) == ("mine", str(mine))
    for name in ("mine", str(mine)):
        relay = isolated_host.relay([name])
        assert list(relay.each("dpoframe_pair_metrics", scores=None, losses=None, stage="train", step=4)) == [("mine", {"seen": 4})]


def test_two_files_of_one_stem(isolated_host: PluginHost, mine: Path) -> None:
    """Two files called alike are two plugins with their own parts."""
    other = mine.parent / "sub" / "mine.py"
    other.parent.mkdir()
    other.write_text(MINE.replace("0.5", "0.25"))
    first, second = isolated_host.get("loss", f"{mine}:Mine"), isolated_host.get("loss", f"{other}:Mine")
    assert (first().beta, second().beta) == (0.5, 0.25)
    assert isolated_host.owner("loss", f"{mine}:Mine") != isolated_host.owner("loss", f"{other}:Mine")


def test_pickles_into_a_fresh_process(isolated_host: PluginHost, mine: Path, tmp_path: Path) -> None:
    """An instance pickles, and a process that never heard of the file unpickles it."""
    made = isolated_host.get("loss", f"{mine}:Mine")(beta=2.0)
    assert pickle.loads(pickle.dumps(made)) == made
    (tmp_path / "made.pickle").write_bytes(pickle.dumps(made))
    code = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).beta)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "made.pickle")], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("2.0\n", "")


def test_faults(isolated_host: PluginHost, mine: Path) -> None:
    """A missing file, a missing name, a part of another kind, and a file that fails each say what is wrong, and where."""
    with pytest.raises(PluginError, match=r"There is no file .*absent\.py"):
        isolated_host.get("loss", str(mine.with_name("absent.py")))
    with pytest.raises(UnknownNameError, match=r"defines no 'Mime'\. Did you mean 'Mine'\?"):
        isolated_host.get("loss", f"{mine}:Mime")
    with pytest.raises(PluginError, match=r"must be a subclass of dpoframe\.Modality, but is the dataclass Mine\.$"):
        isolated_host.get("modality", f"{mine}:Mine")
    with pytest.raises(ConfigError, match=r"must say which modality is meant.*defines none"):
        isolated_host.get("modality", str(mine))
    failing = mine.with_name("failing.py")
    failing.write_text("x = 1\n\nraise SystemExit(4)\n")
    with pytest.raises(PluginError, match=r"failing\.py could not be imported: line 3: SystemExit: 4"):
        isolated_host.get("loss", f"{failing}:Mine")
