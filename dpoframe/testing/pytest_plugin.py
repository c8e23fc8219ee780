"""Fixtures for tests of plugins. Pytest loads this file wherever dpoframe is installed, so it imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dpoframe.plugins import PluginHost
    from dpoframe.testing.toy import ToyModality


@pytest.fixture
def isolated_host() -> Iterator[PluginHost]:
    """A plugin host without installed plugins, which `dpoframe.plugins.host()` gives while the test runs.

    Add a module or an object that implements hooks with `isolated_host.register(module, "name")`.
    """
    from dpoframe.plugins import PluginHost, using

    with using(PluginHost(entry_points=[], disabled=[])) as made:
        yield made


@pytest.fixture
def toy_modality() -> ToyModality:
    """A modality of single characters whose model builds and scores in milliseconds."""
    from dpoframe.testing.toy import ToyModality

    return ToyModality()
