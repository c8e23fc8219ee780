"""The plugin host: finds plugins, sets broken ones aside, and gives out what they supply by name.

Installed plugins are modules named by entry points in the group `dpoframe`. One that cannot be imported or breaks the
rules is kept with its error and never stops the host. Names are looked up with `host().get(kind, name)`.
"""

from __future__ import annotations

from dpoframe.plugins.files import named_by
from dpoframe.plugins.host import PluginHost, host, using
from dpoframe.plugins.kinds import KINDS
from dpoframe.plugins.loading import Plugin
from dpoframe.plugins.relay import Relay

__all__ = ["KINDS", "Plugin", "PluginHost", "Relay", "host", "named_by", "using"]
