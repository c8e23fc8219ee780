"""The frame of the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import typer

import dpoframe
from dpoframe import cli, hookimpl
from dpoframe.cli import main
from dpoframe.plugins import PluginHost, using

HEAVY = ("torch", "lightning", "transformers", "datasets", "peft", "wandb", "numpy", "scipy", "pyarrow", "jinja2")


@pytest.mark.parametrize("words", [["--help"], [], ["--version"], ["train", "--help"], ["config", "--help"], ["plugins", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    """The help imports no torch, nor anything else that is slow, so it stays quick."""
    script = (
        f"import sys; from dpoframe.cli import main; code = main({words!r}); "
        f"print([name for name in {HEAVY!r} if name in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_module_runs() -> None:
    """`python -m dpoframe` is the console script."""
    done = subprocess.run([sys.executable, "-m", "dpoframe", "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, dpoframe.__version__)


def test_closed_pipe_is_quiet() -> None:
    """When the reader goes away nothing is complained about."""
    script = f"{sys.executable} -m dpoframe config --schema | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_every_verb_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    """The help lists every verb file's verb, and every verb, nested ones too, takes --json and --debug."""
    assert main(["--help"]) == 0
    help_text = capsys.readouterr().out
    for verb in cli.VERBS:
        assert f"  {verb} " in help_text
    for words in leaves(cli.command(["--help"])):
        assert main([*words, "--help"]) == 0
        text = capsys.readouterr().out
        assert "--json" in text, words
        assert "--debug" in text, words


def leaves(node: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words of every verb under a command."""
    children = getattr(node, "commands", None)
    if children is None:
        return [above]
    return [words for name, child in children.items() for words in leaves(child, (*above, name))]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version gives the version, as a document with --json."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == dpoframe.__version__
    assert main(["--version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": dpoframe.__version__}


class Verbs:
    """A plugin with verbs: one of its own, a group, and one that the core has."""

    @hookimpl
    def dpoframe_commands(self, cli: Any) -> None:
        """Adds them."""
        group = typer.Typer(name="shelf")

        @cli.command("greet")
        def greet(name: str) -> None:
            dpoframe.cli.output.emit({"hello": name}, f"hello {name}")

        @group.command("list")
        def shelf_list() -> None:
            dpoframe.cli.output.emit([1], "1")

        @group.command("other")
        def other() -> None:
            """Makes the group a group."""

        @cli.command("recipes")
        def recipes() -> None:
            raise AssertionError("a plugin's verb took the place of the core's")

        cli.add_typer(group)


class BrokenVerbs:
    """A plugin whose hook fails."""

    @hookimpl
    def dpoframe_commands(self, cli: Any) -> None:
        """Fails after it added a verb."""
        cli.command("half")(lambda: None)
        raise RuntimeError("no such thing")


@pytest.fixture
def with_verbs() -> Any:
    """A host with the two plugins."""
    host = PluginHost(entry_points=[], disabled=[])
    host.register(Verbs(), "verbs")
    host.register(BrokenVerbs(), "broken-verbs")
    with using(host):
        yield host


@pytest.mark.usefixtures("with_verbs")
def test_plugin_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    """A plugin's verb runs like the core's; one that fails is reported, not fatal; the core's names are the core's."""
    assert main(["greet", "you", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"hello": "you"}
    assert "'broken-verbs' could not add its verbs: RuntimeError: no such thing" in err
    assert "verbs recipes of the plugin 'verbs' are left out" in err
    assert main(["shelf", "list", "--json"]) == 0
    assert capsys.readouterr().out.strip().startswith("[")
    assert main(["recipes"]) == 0
    assert main(["half"]) == 2


@pytest.mark.usefixtures("with_verbs")
def test_all_help_shows_plugin_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    """`--all --help` lists the plugins' verbs; the plain help asks no plugin."""
    assert main(["--help"]) == 0
    assert "greet" not in capsys.readouterr().out
    assert main(["--all", "--help"]) == 0
    out = capsys.readouterr().out
    assert "greet" in out
    assert "shelf" in out
    assert "half" not in out
