"""The command line: one verb a file, each calling one public function. `main` is the console script.

A verb file has `register(app: typer.Typer)`, which adds its verb; it imports what it needs inside the verb's function, so
that `dpoframe --help` stays quick. Every verb takes --json and --debug without declaring them.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import dpoframe
from dpoframe.cli import failures, output
from dpoframe.cli.termination import terminable

VERBS = (
    "quickstart", "train", "eval", "compare", "report", "generate", "data", "plugins", "recipes", "suites", "config",
    "plan", "ray", "doctor",
)  # fmt: skip
"""The verb files, in the order of the help."""

_JSON = typer.Option("--json", help="One JSON document on stdout, all talk on stderr.", show_default=False)
_DEBUG = typer.Option("--debug", help="Show tracebacks.", show_default=False)
_ALL = typer.Option("--all", help="With --help: the verbs that plugins add, too.", show_default=False)


def _version(wanted: bool) -> None:
    if wanted:
        output.emit({"version": dpoframe.__version__}, dpoframe.__version__)
        raise typer.Exit


_VERSION = typer.Option("--version", help="Show the version and leave.", is_eager=True, callback=_version)


class Verbs(TyperGroup):
    """The verbs as a group that leaves Ctrl-C to `main`; typer's own would end with a bare exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the verb that the context names."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise failures.InterruptedVerbError from error


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code (see `failures`).

    Args:
        argv: The words after `dpoframe`; the process's own where None.
    """
    # Threads that spin while they wait take the processor from whoever shares it: on two shared cores a training step
    # took 3 to 7 times as long. libgomp reads this when torch is first imported, so it must be said before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    options = words[: words.index("--")] if "--" in words else words
    output.require_streams()
    with output.session(json="--json" in options, debug="--debug" in options), terminable():
        try:
            status = command(words).main(args=words, prog_name="dpoframe", standalone_mode=False)
            return status if type(status) is int else 0
        except BaseException as error:
            return failures.report(error, words)


def command(words: Sequence[str]) -> Any:
    """The click command for a command line. Plugins are imported only where the words ask for a verb the core lacks.

    So `--help`, and the core's verbs, cost no plugin's import; `--all --help` shows the plugins' verbs too.
    """
    app = application()
    at = next((index for index, word in enumerate(words) if not word.startswith("-")), len(words))
    verb = words[at] if at < len(words) else None
    built = typer.main.get_command(app)
    core = dict(getattr(built, "commands", {}))
    if "--all" in words[:at] or (verb is not None and verb not in core):
        add_plugin_verbs(app, frozenset(core))
        built = typer.main.get_command(app)
    _add_switches(built)
    return built


def application() -> typer.Typer:
    """The typer application with the core's verbs."""
    app = typer.Typer(name="dpoframe", cls=Verbs, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.callback()(_root)
    for name in VERBS:
        importlib.import_module(f"dpoframe.cli.{name}").register(app)
    return app


def add_plugin_verbs(app: typer.Typer, core: frozenset[str]) -> None:
    """Calls every plugin's `dpoframe_commands`. One that fails, or takes a core verb's name, is reported and left out."""
    from dpoframe.plugins import host

    found = host()
    for plugin in found.plugins:
        if plugin.status != "loaded":
            continue
        added = typer.Typer()
        try:
            found.relay([plugin.name]).dpoframe_commands(cli=added)
            names = _names(added)
        except (Exception, SystemExit) as error:
            output.say(
                f"warning: the plugin {plugin.name!r} could not add its verbs: {type(error).__name__}: {error}", style="yellow"
            )
            continue
        if taken := sorted(names & core):
            output.say(f"warning: the verbs {', '.join(taken)} of the plugin {plugin.name!r} are left out: the core has them.")
            added.registered_commands = [one for one in added.registered_commands if _name(one) not in core]
            added.registered_groups = [one for one in added.registered_groups if _name(one) not in core]
        app.registered_commands += added.registered_commands
        app.registered_groups += added.registered_groups


def _names(app: typer.Typer) -> set[str]:
    return {name for name in map(_name, [*app.registered_commands, *app.registered_groups]) if name}


def _name(info: Any) -> str | None:
    """The verb a typer command or group registers: its name, or its function's name with dashes."""
    if isinstance(info.name, str):
        return info.name
    named = getattr(info.callback, "__name__", None) if callable(info.callback) else None
    return named.replace("_", "-") if named else None


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and leave.", is_eager=True, callback=_version)
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="With --help: the verbs that plugins add, too.", show_default=False)] = False,
    json: Annotated[bool, _JSON] = False,
    debug: Annotated[bool, _DEBUG] = False,
) -> None:
    """Aligns any generative model with human preferences, and proves the result."""


def _switch_template(json: Annotated[bool, _JSON] = False, debug: Annotated[bool, _DEBUG] = False) -> None:
    """Never called: the parser's parameters for --json and --debug are taken from it."""


def _add_switches(built: Any) -> None:
    """Gives every verb --json and --debug: parsed anywhere, read by `main` from the words, not passed to the function."""
    template = typer.Typer(add_completion=False)
    template.command()(_switch_template)
    switches = typer.main.get_command(template).params
    for switch in switches:
        switch.expose_value = False
    _attach(built, switches)


def _attach(node: Any, switches: Sequence[Any]) -> None:
    children = getattr(node, "commands", None)
    if children is None:
        taken = {option for parameter in node.params for option in parameter.opts}
        node.params += [switch for switch in switches if not taken & set(switch.opts)]
        return
    for child in children.values():
        _attach(child, switches)
