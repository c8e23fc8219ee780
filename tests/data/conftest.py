"""Fixtures of the data tests: a host with the core's data sets, files of rows, and the folder of real data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dpoframe.data import LoadedPairs, load_pairs
from dpoframe.plugins import PluginHost, using


@pytest.fixture
def core():
    """A host with the core's own parts, which is also what `host()` gives."""
    with using(PluginHost([], [])) as made:
        yield made


@pytest.fixture
def rows_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows (or raw bytes) to a file of the test's folder."""

    def write(content: Any, name: str = "pairs.jsonl") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else "".join(json.dumps(row) + "\n" for row in content).encode()
        path.write_bytes(data)
        return path

    return write


@pytest.fixture
def load(core: PluginHost) -> Callable[..., LoadedPairs]:
    """`load_pairs` of a file by the core's host."""

    def run(path: Path | None = None, name: str = "jsonl", **given: Any) -> LoadedPairs:
        own = {key: given.pop(key, None) for key in ("validation", "limit")}
        call: Mapping[str, Any] = {key: given.pop(key) for key in ("seed", "allow", "modality") if key in given}
        options = {**({"path": str(path)} if path else {}), **given}
        return load_pairs(SimpleNamespace(name=name, options=options, **own), core, **call)

    return run


@pytest.fixture
def real() -> Path:
    """The folder of real data beside the repository."""
    folder = Path(__file__).parents[2] / ".." / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder
