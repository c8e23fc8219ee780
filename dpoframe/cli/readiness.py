"""What the installed evaluators say of this machine: `doctor` asks each whether it can run here, as a suite would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from typing import TYPE_CHECKING

from dpoframe.cli.finding import Finding
from dpoframe.errors import MachineError
from dpoframe.evaluator import Available, Refused

if TYPE_CHECKING:
    from dpoframe.plugins import PluginHost
    from dpoframe.plugins.loading import Plugin

SECONDS = 10.0
"""How long one evaluator may take. A plugin that was too slow once is asked no more."""

_LONGEST = 2000
_READY = Finding("", "ok", "")
_UNASKED = Finding("", "ok", "not asked: it needs settings")


def evaluators() -> Iterator[Finding]:
    """Whether the installed evaluators can run here, those together that say the same.

    Whatever a plugin does when it is asked (it may raise, hang, exit or print) is a finding of its own, and stops nothing.
    """
    from dpoframe.plugins import host

    try:
        known = host()
    except Exception:  # the check of the plugins tells of it
        return
    alike: dict[Finding, list[str]] = {}
    for plugin in known.plugins:
        for finding in _of_plugin(known, plugin):
            alike.setdefault(replace(finding, what=""), []).append(finding.what)
    ready, unasked = alike.pop(_READY, []), alike.pop(_UNASKED, [])
    yield from (replace(finding, what=f"evaluator {', '.join(names)}") for finding, names in alike.items())
    if ready or unasked:
        rest = f"; not asked, as they need settings: {', '.join(unasked)}" if unasked else ""
        yield Finding("other evaluators", "ok", f"{len(ready)} can run here{rest}")


def _of_plugin(host: PluginHost, plugin: Plugin) -> Iterator[Finding]:
    """A finding for each of a plugin's evaluators, called by its name."""
    from dpoframe.harness.phases.limits import OverdueError, asking

    mend = f"Mend, update or uninstall {plugin.distribution or plugin.name}."
    slow = ""
    # Two at once means in threads that are watched: what hangs outside Python is left behind, too.
    with asking(lambda name: _answer(host, plugin, name), SECONDS, width=2) as ask:
        for name in plugin.parts.get("evaluator", ()) if plugin.status == "loaded" else ():
            try:
                found = Finding("", "warning", f"not asked after {slow}", mend) if slow else ask(name)()
            except OverdueError:
                slow = name
                found = Finding("", "warning", f"did not say in {SECONDS:g} s whether it can run here", mend)
            except MachineError as error:
                found = Finding("", "note", _said(error), getattr(error, "install", ""))
            except (Exception, SystemExit) as error:
                found = Finding("", "warning", f"{type(error).__name__}: {_said(error)}", mend)
            yield replace(found, what=name)


def _answer(host: PluginHost, plugin: Plugin, name: str) -> Finding:
    """What one evaluator says, with its fields as they are by default."""
    from dpoframe.plugins.loading import quiet_output

    with quiet_output():
        kind = host.value_of(plugin, "evaluator", name)
        if any(one.init and one.default is MISSING and one.default_factory is MISSING for one in fields(kind)):
            return _UNASKED
        state = kind().probe()
    if isinstance(state, Refused):
        return Finding("", "note", str(state.reason)[:_LONGEST], str(state.fix))
    if not isinstance(state, Available):
        raise TypeError(f"its probe gave {type(state).__name__}, expected Available or Refused")
    return Finding("", "ok", str(state.found)[:_LONGEST])


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:_LONGEST]
