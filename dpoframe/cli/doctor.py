"""`dpoframe doctor`: what of this machine and its libraries fits, and what clashes."""

from __future__ import annotations

import typer

from dpoframe.cli import output


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("doctor")(doctor)


def doctor() -> None:
    """Looks at this machine, its libraries and plugins; names a fix for everything that does not fit."""
    from dpoframe.cli.examination import examine

    findings = examine()
    usable = all(finding.status != "broken" for finding in findings)
    rows = [(finding.status, finding.what, finding.found) for finding in findings]
    output.emit({"usable": usable, "findings": findings}, output.table(["", "what", "found"], rows))
    for finding in findings:
        if finding.fix:
            output.say(f"{finding.what}: {finding.fix}", style="red" if finding.status == "broken" else "yellow")
    if not usable:
        raise typer.Exit(3)
