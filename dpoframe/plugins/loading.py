"""Takes one plugin in: imports it, checks its hooks against the specifications, collects its parts."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from typing import Any, Literal

import pluggy

from dpoframe import hookspecs
from dpoframe.errors import PluginError
from dpoframe.plugins.files import describe
from dpoframe.plugins.kinds import KINDS, fault_of_entry
from dpoframe.plugins.missing import install_line

Status = Literal["loaded", "broken", "disabled"]
HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("dpoframe_"))


@dataclass(frozen=True)
class Plugin:
    """One plugin as the host sees it.

    Attributes:
        name: What a recipe calls it under `plugins:`; the entry point's name.
        distribution: The installed distribution it came from; empty for a file or an object registered by hand.
        version: The distribution's version.
        status: `loaded`, `broken` (set aside, see `error`) or `disabled`.
        error: Why it is broken or disabled; one line a fault.
        targets: Kind to name to what the plugin's hook gave: a class, a callable, a path, or "module:Name".
        module: The module or object that holds the hooks, None where there is none to hold.
    """

    name: str
    distribution: str = ""
    version: str = ""
    status: Status = "loaded"
    error: str = ""
    targets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    module: Any = field(default=None, repr=False, compare=False)

    @property
    def parts(self) -> Mapping[str, Sequence[str]]:
        """Kind to the sorted names of what the plugin supplies."""
        return {kind: sorted(found) for kind, found in self.targets.items() if found}

    @property
    def origin(self) -> str:
        """The distribution and its version, or the file: what to name in a message."""
        return f"{self.distribution} {self.version}".strip() or str(getattr(self.module, "__file__", None) or "this process")


def new_manager() -> pluggy.PluginManager:
    """An empty plugin manager that knows dpoframe's hooks."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def load_entry_point(point: EntryPoint) -> Plugin:
    """The plugin of one entry point. Whatever it raises, but a keyboard interrupt, makes it broken."""
    distribution, version = provenance(point)
    try:
        with quiet_output():
            module = point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        fault = f"{point.value} could not be imported: {describe(error)}"
        if isinstance(error, ModuleNotFoundError) and (line := install_line(error.name or "", distribution)):
            fault = f"{fault}. Install it with: {line}"
        return Plugin(point.name, distribution, version, "broken", fault)
    return inspect_plugin(point.name, module, distribution, version)


def inspect_plugin(name: str, module: Any, distribution: str = "", version: str = "") -> Plugin:
    """The plugin that a module or object makes, with every fault found in its hooks and in what they return."""
    faults = [*misnamed_hooks(module)]
    manager = new_manager()
    try:
        manager.register(module, name=name)
    except pluggy.PluginValidationError as error:
        faults.append(_argument_fault(error, module))
    targets: dict[str, Mapping[str, Any]] = {}
    if not faults:
        for kind, hook in KINDS.items():
            targets[kind], wrong = _collect(manager, kind, hook)
            faults += wrong
    if faults:
        return Plugin(name, distribution, version, "broken", "\n".join(faults), module=module)
    return Plugin(name, distribution, version, targets=targets, module=module)


def misnamed_hooks(module: Any) -> Iterator[str]:
    """Faults of functions that look like hooks and would be silently passed over."""
    for name in dir(module):
        function = inspect.getattr_static(module, name)
        if not (name.startswith("dpoframe_") and inspect.isroutine(function)):
            continue
        marks = getattr(function, "dpoframe_impl", None)
        hook = (marks or {}).get("specname") or name
        if hook not in HOOKS:
            near = difflib.get_close_matches(hook, HOOKS, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"The hooks are {', '.join(HOOKS)}."
            yield f"{hook} is no hook of dpoframe. {hint}"
        elif marks is None:
            yield f"{name} is not marked with @dpoframe.hookimpl, so it would never be called."


def provenance(point: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that an entry point belongs to; empty where its metadata is unreadable."""
    try:
        return (point.dist.name, point.dist.version) if point.dist else ("", "")
    except Exception:
        return "", ""


@contextlib.contextmanager
def quiet_output() -> Iterator[None]:
    """Sends what a plugin prints to stderr: stdout belongs to the command's own document."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _argument_fault(error: pluggy.PluginValidationError, module: Any) -> str:
    """Says which argument a hook got wrong, and what it may take."""
    text = str(error)
    for hook in HOOKS:
        if f"{hook!r}" in text and (function := getattr(module, hook, None)) is not None:
            allowed = list(inspect.signature(getattr(hookspecs, hook)).parameters)
            try:
                given = list(inspect.signature(function).parameters)
            except (TypeError, ValueError):
                break
            wrong = [name for name in given if name not in allowed]
            if wrong:
                takes = ", ".join(allowed) if allowed else "no arguments"
                return f"{hook} takes {takes}; it was written with {', '.join(wrong)}."
    return " ".join(text.split())


def _collect(manager: pluggy.PluginManager, kind: str, hook: str) -> tuple[dict[str, Any], list[str]]:
    """What a plugin's hook supplies of one kind, and the faults of that."""
    try:
        with quiet_output():
            results = getattr(manager.hook, hook)()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return {}, [f"{hook} raised {describe(error)}"]
    found: dict[str, Any] = {}
    for result in results:
        if not isinstance(result, Mapping):
            return {}, [f"{hook} must return a mapping of names, but returned {result!r:.80} ({type(result).__name__})"]
        found.update(result)
    faults = [f"{hook}: {fault}" for name, value in found.items() if (fault := fault_of_entry(kind, name, value))]
    return found, faults


def loaded(plugin: Plugin) -> Plugin:
    """The plugin itself where it is loaded; PluginError, with its error, where it is broken or disabled."""
    if plugin.status != "loaded":
        raise PluginError(f"The plugin {plugin.name!r} ({plugin.origin}) is {plugin.status}: {plugin.error}")
    return plugin
