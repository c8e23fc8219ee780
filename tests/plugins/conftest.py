"""Fake installed distributions: a folder on sys.path with modules and dist-info folders, as pip leaves them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from textwrap import dedent

import pytest

from dpoframe.plugins import PluginHost


class Site:
    """A folder of installed distributions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self,
        distribution: str,
        entries: Mapping[str, str],
        files: Mapping[str, str] | None = None,
        requires: Sequence[str] = (),
        version: str = "1.0",
    ) -> None:
        """Installs a distribution: entry points of the group dpoframe (name to module) and files (path to content)."""
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n{needs}")
        (info / "entry_points.txt").write_text("[dpoframe]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items()))
        for path, content in (files or {}).items():
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(dedent(content))
        importlib.invalidate_caches()

    def host(self, disabled: Collection[str] = ()) -> PluginHost:
        """A host of the distributions in this folder alone."""
        found = [point for one in distributions(path=[str(self.folder)]) for point in one.entry_points.select(group="dpoframe")]
        return PluginHost(found, disabled)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty folder on sys.path to install distributions into; what was imported from it is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield Site(folder)
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
