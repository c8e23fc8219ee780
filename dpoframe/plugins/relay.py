"""Calls a hook on a chosen set of plugins, and says which plugin gave what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dpoframe.errors import DpoframeError, PluginError
from dpoframe.plugins.files import describe
from dpoframe.plugins.loading import Plugin, new_manager


class Relay:
    """The hooks of some plugins. `relay.dpoframe_callbacks(config=...)` calls them as pluggy does.

    The plugins are asked in the order given, so the first to return a module decides `dpoframe_reference`.
    """

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = tuple(plugins)
        self._manager = new_manager()
        # pluggy asks the last registered first.
        for plugin in reversed(self.plugins):
            self._manager.register(plugin.module, name=plugin.name)

    def __getattr__(self, hook: str) -> Any:
        if hook.startswith("dpoframe_"):
            return getattr(self._manager.hook, hook)
        raise AttributeError(hook)

    def each(self, hook: str, **arguments: Any) -> Iterator[tuple[str, Any]]:
        """Yields `(plugin's name, what it returned)` for each plugin that implements a hook, one call at a time.

        Raises:
            PluginError: a hook raised something that is no DpoframeError and no lack of memory, or would end the program; the
                message names the plugin.
        """
        caller = getattr(self._manager.hook, hook)
        known = {implementation.plugin_name for implementation in caller.get_hookimpls()}
        for plugin in self.plugins:
            if plugin.name not in known:
                continue
            others = [other.module for other in self.plugins if other.name != plugin.name]
            try:
                result = self._manager.subset_hook_caller(hook, others)(**arguments)
            except DpoframeError:
                raise
            except (Exception, SystemExit) as error:
                if lacks_memory(error):
                    raise
                message = f"The hook {hook} of the plugin {plugin.name!r} ({plugin.origin}) raised {describe(error)}"
                raise PluginError(message) from error
            first = caller.spec is not None and caller.spec.opts.get("firstresult")
            yield from ((plugin.name, value) for value in ([result] if first else result))


def lacks_memory(error: BaseException) -> bool:
    """Whether it is the machine's memory that did not suffice, which is no fault of a hook."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
