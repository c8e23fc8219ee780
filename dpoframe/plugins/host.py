"""The host: all plugins of a process, and the parts they supply, by kind and name."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from importlib.metadata import EntryPoint, distributions, entry_points
from pathlib import Path
from typing import Any

from dpoframe.errors import ConfigError, DpoframeError, MissingExtraError, PluginError, UnknownNameError, suggestion
from dpoframe.hookspecs import PROJECT
from dpoframe.plugins.files import defined_in, describe, is_file_target, load_file, split_target
from dpoframe.plugins.kinds import FILES, KINDS, PLURALS, SINGULARS, TARGET, fault_of_part, require_part
from dpoframe.plugins.loading import Plugin, inspect_plugin, load_entry_point, loaded, provenance, quiet_output
from dpoframe.plugins.missing import install_line, normal
from dpoframe.plugins.relay import Relay

BUILTIN = "builtin"
DISABLE = "DPOFRAME_DISABLE_PLUGINS"


class PluginHost:
    """Holds the plugins. The core's own parts come from a plugin like any other, called `builtin`.

    Two plugins may supply the same name: both stay listed, and only asking for that name is an error, so a clash
    never takes away what does not clash.

    Args:
        entry_points: What to load; the installed entry points of the group `dpoframe` unless given.
        disabled: Names of plugins, or of distributions, to set aside; read from DPOFRAME_DISABLE_PLUGINS unless given.
    """

    def __init__(self, entry_points: Iterable[EntryPoint] | None = None, disabled: Collection[str] | None = None) -> None:
        self.disabled = _disabled_by_environment() if disabled is None else frozenset(disabled)
        points = installed_entry_points() if entry_points is None else list(entry_points)
        self._plugins = [_builtin()]
        self._plugins += sorted(self._load(points), key=lambda plugin: (plugin.name, plugin.distribution))
        self._files: dict[Path, Plugin] = {}

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """Every plugin, the broken and the disabled among them; `builtin` first, then by name, then files."""
        return (*self._plugins, *self._files.values())

    @property
    def hook(self) -> Relay:
        """The hooks of all loaded plugins."""
        return Relay(self._loaded())

    def register(self, module: Any, name: str) -> Plugin:
        """Adds a module or object that implements hooks, as if it were installed under `name`; for tests and notebooks."""
        if any(plugin.name == name for plugin in self.plugins):
            raise PluginError(f"A plugin called {name!r} is there already.")
        self._plugins.append(loaded(inspect_plugin(name, module)))
        return self._plugins[-1]

    def names(self, kind: str) -> list[str]:
        """Sorted names of what is supplied of a kind."""
        _require_kind(kind)
        return sorted({name for plugin in self._loaded() for name in plugin.targets.get(kind, ())})

    def clashes(self) -> dict[tuple[str, str], tuple[Plugin, ...]]:
        """`(kind, name)` to the plugins that supply it, where they are more than one."""
        found = {(kind, name): self._suppliers(kind, name) for kind in KINDS for name in self.names(kind)}
        return {key: plugins for key, plugins in found.items() if len(plugins) > 1}

    def owner(self, kind: str, name: str) -> Plugin:
        """The plugin that supplies a name; for a file target the plugin that the file makes.

        Raises:
            UnknownNameError: nobody supplies the name; the message suggests the nearest.
            PluginError: two plugins supply it.
        """
        _require_kind(kind)
        if is_file_target(name):
            return self.file_plugin(split_target(name)[0])
        suppliers = self._suppliers(kind, name)
        if not suppliers:
            raise UnknownNameError(self._unknown(kind, name))
        if len(suppliers) > 1:
            raise PluginError(clash_message(kind, name, suppliers))
        return suppliers[0]

    def get(self, kind: str, name: str) -> Any:
        """What a name stands for: a class, a callable (data sets) or a path (suites, recipes).

        Args:
            kind: A key of `KINDS`.
            name: A supplied name, or a file: `./mine.py:MyModality`; the `:MyModality` may be left out where the file
                defines one part of that kind. For suites and recipes the path of a YAML file.

        Raises:
            UnknownNameError: nobody supplies the name.
            PluginError: it clashes, cannot be imported, or is not what its kind demands.
            MissingExtraError: it needs a library that is not installed and that its distribution declares.
        """
        _require_kind(kind)
        if kind in FILES and name.endswith((".yaml", ".yml")):
            return _existing(kind, Path(name).expanduser())
        if is_file_target(name):
            return self._from_file(kind, name)
        return self.value_of(self.owner(kind, name), kind, name)

    def value_of(self, plugin: Plugin, kind: str, name: str) -> Any:
        """What one plugin supplies under a name, imported and checked; errors as for `get`, but for clashes."""
        target = plugin.targets[kind][name]
        label = f"The {SINGULARS[kind]} {name!r} of the plugin {plugin.name!r} ({plugin.origin})"
        if isinstance(target, str):
            return require_part(kind, f"{label}, {target},", import_target(target, label, plugin.distribution))
        return require_part(kind, label, target)

    def relay(self, plugins: Collection[str]) -> Relay:
        """The hooks of the named plugins and of `builtin`, asked in the order given, `builtin` last.

        Raises:
            UnknownNameError: a name is no installed plugin's.
            PluginError: a named plugin is broken or disabled.
        """
        chosen = {plugin.name: plugin for plugin in map(self.plugin, plugins)}
        return Relay([*(plugin for name, plugin in chosen.items() if name != BUILTIN), self._plugins[0]])

    def plugin(self, name: str) -> Plugin:
        """The loaded plugin of a name, or of a file `./mine.py`; errors as for `relay`."""
        if is_file_target(name):
            return self.file_plugin(split_target(name)[0])
        found = [plugin for plugin in self.plugins if plugin.name == name]
        if not found:
            known = [plugin.name for plugin in self.plugins]
            raise UnknownNameError(_unfound(f"No plugin is called {name!r}.", name, known, "Installed"))
        return loaded(found[0])

    def file_plugin(self, path: Path) -> Plugin:
        """The plugin that a Python file makes. It is called by the file's stem, which its metrics then carry."""
        if path not in self._files:
            taken = {plugin.name for plugin in self.plugins}
            name = path.stem if path.stem not in taken else str(path)
            self._files[path] = loaded(inspect_plugin(name, load_file(path)))
        return self._files[path]

    def _load(self, points: Iterable[EntryPoint]) -> Iterator[Plugin]:
        """Loads entry points one by one; those of one name are told apart by nothing, so all of them are set aside."""
        unique = {(point.name, point.value, provenance(point)): point for point in points}
        wanted: list[EntryPoint] = []
        for point in unique.values():
            distribution, version = provenance(point)
            if self.disabled & {point.name, distribution, normal(distribution)}:
                yield Plugin(point.name, distribution, version, "disabled", f"set aside by {DISABLE}")
            else:
                wanted.append(point)
        count = Counter([BUILTIN, *(point.name for point in wanted)])
        taken: dict[int, str] = {}
        for point in wanted:
            if count[point.name] > 1:
                yield Plugin(point.name, *provenance(point), "broken", _name_taken(point, wanted))
                continue
            plugin = load_entry_point(point)
            first = taken.setdefault(id(plugin.module), plugin.name) if plugin.status == "loaded" else plugin.name
            yield plugin if first == plugin.name else _repeated(plugin, first)

    def _loaded(self) -> list[Plugin]:
        return [plugin for plugin in self._plugins if plugin.status == "loaded"]

    def _suppliers(self, kind: str, name: str) -> tuple[Plugin, ...]:
        return tuple(plugin for plugin in self._loaded() if name in plugin.targets.get(kind, ()))

    def _from_file(self, kind: str, name: str) -> Any:
        """The class or callable that a file target names, or the only one of its kind in the file."""
        path, wanted = split_target(name)
        module = self.file_plugin(path).module
        if wanted:
            if not hasattr(module, wanted):
                known = defined_in(module)
                raise UnknownNameError(_unfound(f"{path} defines no {wanted!r}.", wanted, known, "It defines"))
            return require_part(kind, f"{path}:{wanted}", getattr(module, wanted))
        fitting = [found for found, value in defined_in(module).items() if not fault_of_part(kind, value)]
        if len(fitting) == 1:
            return getattr(module, fitting[0])
        which = f"defines several: {', '.join(fitting)}" if fitting else "defines none"
        raise ConfigError(f"{name!r} must say which {SINGULARS[kind]} is meant, as in '{name}:Name'; the file {which}.")

    def _unknown(self, kind: str, name: str) -> str:
        """The message for a name that nobody supplies: what there is, what is near, what is broken."""
        known = self.names(kind)
        lines = [_unfound(f"No {SINGULARS[kind]} is called {name!r}.", name, known, f"Installed {PLURALS[kind]}")]
        for plugin in self.plugins:
            if plugin.status != "loaded":
                lines.append(f"The plugin {plugin.name!r} ({plugin.origin}) is {plugin.status} and may supply it: {plugin.error}")
        return "\n".join(lines)


def import_target(target: str, label: str, distribution: str) -> Any:
    """Imports "module:Name". `label` names it in errors; `distribution` is asked for the missing library's extra."""
    match = TARGET.fullmatch(target)
    if match is None:
        raise PluginError(f"{label} is {target!r}, but a target is written 'package.module:Name'.")
    try:
        with quiet_output():
            module = importlib.import_module(match["module"])
    except (KeyboardInterrupt, DpoframeError):
        raise
    except BaseException as error:
        missing = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
        if line := install_line(missing, distribution):
            raise MissingExtraError(label, missing, line) from error
        raise PluginError(f"{label} could not be imported from {target}: {describe(error)}") from error
    if not hasattr(module, match["name"]):
        hint = suggestion(match["name"], defined_in(module))
        raise PluginError(f"{label} could not be imported: {match['module']} has no {match['name']!r}. {hint}".rstrip())
    return getattr(module, match["name"])


def clash_message(kind: str, name: str, plugins: Collection[Plugin]) -> str:
    """Says which plugins supply one name, and how to choose."""
    who = " and ".join(f"{plugin.name!r} ({plugin.origin})" for plugin in plugins)
    spare = next((plugin.name for plugin in reversed(tuple(plugins)) if plugin.name != BUILTIN), "")
    what = f"The {SINGULARS[kind]} {name!r} is supplied by the plugins {who}"
    return f"{what}. Set one aside, for example with {DISABLE}={spare}, or uninstall it."


def installed_entry_points() -> list[EntryPoint]:
    """The installed entry points of the group; a distribution with unreadable metadata is passed over."""
    try:
        return list(entry_points(group=PROJECT))
    except Exception:
        return list(_readable_entry_points())


def _readable_entry_points() -> Iterator[EntryPoint]:
    """Entry points, distribution by distribution, without those that cannot be parsed."""
    for distribution in distributions():
        with contextlib.suppress(Exception):
            yield from distribution.entry_points.select(group=PROJECT)


def _builtin() -> Plugin:
    """The core's own parts. If these fail, dpoframe itself is broken, and that is raised as it is."""
    from dpoframe import __version__, builtin

    return loaded(inspect_plugin(BUILTIN, builtin, "dpoframe", __version__))


def _disabled_by_environment() -> frozenset[str]:
    names = (name.strip() for name in os.environ.get(DISABLE, "").split(","))
    return frozenset(name for name in names if name)


def _name_taken(point: EntryPoint, points: Collection[EntryPoint]) -> str:
    """Says who else uses an entry point's name."""
    if point.name == BUILTIN:
        return f"the name {BUILTIN!r} is dpoframe's own; give the entry point another name"
    rivals = sorted(provenance(other)[0] or other.value for other in points if other.name == point.name)
    who = f"several distributions call their plugin {point.name!r}: {', '.join(rivals)}"
    return f"{who}. Uninstall one, or set one aside: {DISABLE}={rivals[-1]}"


def _repeated(plugin: Plugin, first: str) -> Plugin:
    """The broken plugin that a second entry point to the same object makes."""
    fault = f"its entry point names the same object as the plugin {first!r}; remove one of the two entry points"
    return Plugin(plugin.name, plugin.distribution, plugin.version, "broken", fault)


def _unfound(message: str, given: str, known: Collection[str], heading: str) -> str:
    """A message for an unknown name, with the nearest one and all there are."""
    near = suggestion(given, known)
    return f"{message} {near + ' ' if near else ''}{heading}: {', '.join(known) or 'none'}."


def _require_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of part. {suggestion(kind, KINDS)} Kinds: {', '.join(KINDS)}.")


def _existing(kind: str, path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"There is no {kind} file {path}.")
    return path


_current: list[PluginHost] = []


def host() -> PluginHost:
    """The process's host, made at the first call."""
    if not _current:
        _current.append(PluginHost())
    return _current[-1]


@contextlib.contextmanager
def using(other: PluginHost) -> Iterator[PluginHost]:
    """Context in which `host()` gives another host; for tests."""
    _current.append(other)
    try:
        yield other
    finally:
        _current.pop()
