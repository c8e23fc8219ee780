"""`dpoframe plugins`: what is installed and what is broken, the contract of a plugin, a new plugin's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpoframe.cli import output

if TYPE_CHECKING:
    from dpoframe.plugins import Plugin, PluginHost
    from dpoframe.testing.checking import PartReport
    from dpoframe.testing.contract import Outcome

_MARKS = {"passed": "ok  ", "failed": "FAIL", "skipped": "skip"}
_SET = typer.Option("--set", metavar="KEY=VALUE", help="A value for a field that has no default. May be repeated.")
_JSON = typer.Option("--json", help="One JSON document on stdout, all talk on stderr.", show_default=False)


def register(app: typer.Typer) -> None:
    """Adds the verb and its three parts."""
    group = typer.Typer(help="Shows, checks and makes plugins.", invoke_without_command=True)
    group.callback()(plugins)
    group.command("list")(list_plugins)
    group.command("check")(check)
    group.command("new")(new)
    app.add_typer(group, name="plugins")


def plugins(context: typer.Context, json: Annotated[bool, _JSON] = False) -> None:
    """Shows, checks and makes plugins; alone it lists them."""
    if context.invoked_subcommand is None:
        list_plugins()


def list_plugins() -> None:
    """Lists the installed plugins, what they supply, and what is broken and why."""
    from dpoframe.plugins import host

    found = host()
    document = {
        "plugins": [_described(plugin) for plugin in found.plugins],
        "clashes": [
            {"kind": kind, "name": name, "plugins": [plugin.name for plugin in plugins]}
            for (kind, name), plugins in found.clashes().items()
        ],
    }
    rows = [(plugin.name, plugin.origin, plugin.status, _supplies(plugin)) for plugin in found.plugins]
    output.emit(document, output.fitted(output.table(["plugin", "from", "status", "supplies"], rows)))
    for warning in _warnings(found):
        output.say(warning, style="yellow")


def check(
    name: Annotated[str, typer.Argument(help="A plugin's name, or a file: ./mine.py")],
    values: Annotated[list[str] | None, _SET] = None,
) -> None:
    """Runs the contract of everything a plugin supplies. Exit code 0: it holds; 1: a check failed; 2: nothing could be checked."""
    from dpoframe.plugins import host
    from dpoframe.testing.checking import check_plugin, summary

    reports: list[PartReport] = []
    for report in check_plugin(host(), name, _options(values or [])):
        output.say(f"checked the {_part(report)}")
        reports.append(report)
    counts = summary(reports)
    output.emit({"plugin": name, **counts, "parts": [_document(report) for report in reports]}, _text(reports, counts))
    if counts["failed"]:
        raise typer.Exit(1)
    if not counts["passed"]:
        raise typer.Exit(2)


def new(
    kind: Annotated[str, typer.Argument(help="modality, dataset, evaluator, loss or reporter")],
    name: Annotated[str, typer.Argument(help="What recipes will call it, such as colour-names")],
    out: Annotated[Path, typer.Option("--out", help="The folder to make the plugin's folder in.")] = Path(),
) -> None:
    """Writes an installable plugin that passes its own checks, ready to be changed."""
    from dpoframe.scaffold import write_plugin

    folder = write_plugin(kind, name, out)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    steps = [f"pip install -e {folder}", f"dpoframe plugins check {name}", f"python -m pytest {folder}"]
    written = f"Wrote {folder}:\n" + "\n".join(f"  {file}" for file in files)
    output.emit({"folder": folder, "files": files, "next": steps}, f"{written}\nNext:\n" + "\n".join(f"  {step}" for step in steps))


def _options(values: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE` words as a mapping; values are read as YAML, as in a recipe."""
    import yaml

    from dpoframe.errors import ConfigError

    found = {}
    for word in values:
        key, equals, text = word.partition("=")
        if not (key and equals):
            raise ConfigError(f"--set takes KEY=VALUE, but was given {word!r}.")
        try:
            found[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {word}: the value is not YAML: {error}") from error
    return found


def _described(plugin: Plugin) -> Mapping[str, Any]:
    """A plugin in the JSON document."""
    named = ("name", "distribution", "version", "status", "error")
    return {**{name: getattr(plugin, name) for name in named}, "parts": plugin.parts}


def _supplies(plugin: Plugin) -> str:
    """The parts of a plugin in one cell, a line a kind."""
    from dpoframe.plugins.kinds import SINGULARS

    return "\n".join(f"{SINGULARS[kind]}: {', '.join(names)}" for kind, names in plugin.parts.items())


def _part(report: PartReport) -> str:
    """A part, or the plugin itself, in words."""
    from dpoframe.plugins.kinds import SINGULARS

    return f"{SINGULARS.get(report.kind, report.kind)} {report.name}"


def _warnings(found: PluginHost) -> list[str]:
    """What a person should know besides the table."""
    from dpoframe.plugins.host import clash_message

    lines = [f"{plugin.name} is {plugin.status}: {plugin.error}" for plugin in found.plugins if plugin.error]
    lines += [clash_message(kind, name, plugins) for (kind, name), plugins in found.clashes().items()]
    known = {word for plugin in found.plugins for word in (plugin.name, plugin.distribution)}
    lines += [f"DPOFRAME_DISABLE_PLUGINS names {name!r}, which is not installed." for name in sorted(found.disabled - known)]
    return lines


def _document(report: PartReport) -> Mapping[str, Any]:
    """One part's checks in the JSON document."""
    checks = [
        {"check": one.check.name, "rule": one.check.rule, "status": one.status, "message": one.message, "remedy": one.check.remedy}
        for one in report.outcomes
    ]
    return {"kind": report.kind, "name": report.name, "checks": checks}


def _text(reports: Sequence[PartReport], counts: Mapping[str, int]) -> str:
    """The checks of all parts for a person."""
    lines = []
    for report in reports:
        lines.append(_part(report))
        lines += [line for outcome in report.outcomes for line in _lines(outcome)]
    lines.append(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return "\n".join(lines)


def _lines(outcome: Outcome) -> list[str]:
    """One check: its mark and rule; where it did not pass, why; where it failed, what to look at."""
    lines = [f"  {_MARKS[outcome.status]}  {outcome.check.rule}"]
    if outcome.message:
        lines.append(f"          {outcome.message}")
    if outcome.status == "failed" and outcome.check.remedy:
        lines.append(f"          If this fails: {outcome.check.remedy}")
    return lines
