"""The command line, called in a folder of its own: what it says and writes is looked at after every command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dpoframe.cli import main
from dpoframe.plugins import PluginHost, using
from dpoframe.testing import toy

PREFERENCES = [{"prompt": f"say {letter}", "chosen": f"{letter} aeiou", "rejected": f"{letter} xyz"} for letter in "abcdefgh"]
RECIPE: dict[str, Any] = {
    "modality": {"name": "toy"},
    "data": {"name": "jsonl", "path": "rows.jsonl"},
    "trainer": {"max_steps": 2, "batch_size": 4, "accelerator": "cpu"},
}


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, and all that it said."""

    code: int
    said: str


@dataclass(frozen=True)
class Ground:
    """Where a hostile input is laid out.

    Attributes:
        home: The current folder of the command.
        trap: A file that hostile code writes where it runs; it must never be there.
        host: The plugins of the command.
    """

    home: Path
    trap: Path
    host: PluginHost

    def write(self, name: str, content: str | bytes | list[Any] | dict[str, Any]) -> Path:
        """A file below `home`: JSON for a mapping, JSON Lines for a list."""
        file = self.home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        if isinstance(content, dict):
            content = json.dumps(content)
        file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return file

    def code(self, name: str = "evil.py") -> Path:
        """A Python file that springs the trap when it is imported, and defines parts of every kind."""
        return self.write(
            name,
            f"open({str(self.trap)!r}, 'w').close()\n"
            "from dpoframe.builtin.finished import Finished\n"
            "from dpoframe.testing.toy import ToyModality\n"
            "class Evil(Finished): pass\n"
            "class EvilModality(ToyModality): pass\n",
        )

    def recipe(self, **changes: Any) -> str:
        """A recipe of the toy modality with some sections changed, and the rows that it names; its file's name."""
        if not (self.home / "rows.jsonl").exists():
            self.write("rows.jsonl", PREFERENCES)
        return str(self.write("recipe.yaml", {**RECIPE, **changes}).relative_to(self.home))

    def model(self, **record: Any) -> str:
        """An exported toy model, its record changed; its folder's name."""
        from dpoframe.checkpoint.model import export

        modality = toy.ToyModality()
        export(modality, modality.build(), self.home / "model", "# card\n", name="toy")
        file = self.home / "model" / "dpoframe.json"
        self.write("model/dpoframe.json", {**json.loads(file.read_text()), **record})
        return "model"

    def suite(self, text: str = "", **keys: Any) -> str:
        """A suite of two prompts, some keys changed, or the text as it is; its file's name."""
        whole = {"name": "small", "version": 1, "prompts": ["say a", "say b"], "evaluators": ["finished"], **keys}
        return str(self.write("suite.yaml", text or whole).relative_to(self.home))


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """A folder to run in, with the core's parts and the toy's, and no others."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("DPOFRAME_CACHE", str(home / "cache"))
    monkeypatch.delenv("DPOFRAME_TRUST_FILES", raising=False)
    host = PluginHost(entry_points=[])
    host.register(toy, "toy")
    with using(host):
        yield Ground(home, tmp_path / "sprung", host)


@pytest.fixture
def ended(ground: Ground, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs one command. Whatever it was given, it shows no traceback, steers no terminal, and writes below `home` alone."""

    def run(*words: str) -> Ended:
        before = {file.name for file in ground.home.parent.iterdir()}
        capsys.readouterr()
        code = main(list(words))
        said = "".join(capsys.readouterr())
        assert "Traceback" not in said
        assert not [mark for mark in said if mark != "\n" and not mark.isprintable() and mark != "\t"], ascii(said)
        assert {file.name for file in ground.home.parent.iterdir()} == before
        assert not ground.trap.exists()
        return Ended(code, said)

    return run
