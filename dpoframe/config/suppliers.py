"""Which plugins supply what a recipe's parts use in their turn: data sets inside others, suites and what is in them.

Nothing here is an error: whatever is wrong with a suite or a mixture is told when it is opened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from dpoframe.config import paths
from dpoframe.config.document import read_file
from dpoframe.config.sections import MIXTURE, DataSection
from dpoframe.errors import DpoframeError

if TYPE_CHECKING:
    from dpoframe.plugins import PluginHost

PartName: TypeAlias = tuple[str, str]
"""A kind of part and a name."""


def indirect_suppliers(host: PluginHost, data: DataSection, suites: Sequence[str]) -> tuple[str, ...]:
    """Names of the plugins that supply a mixture's data sets, the suites, and their evaluators and data sets.

    Args:
        host: Where names are looked up.
        data: The recipe's data section.
        suites: The recipe's `evaluate`.
    """
    used = [*_inside({"name": data.name, **data.options}), *_inside(data.validation)]
    for suite in suites:
        used += _of_suite(host, suite)
    found = []
    for kind, name in used:
        with contextlib.suppress(DpoframeError):
            found.append(host.owner(kind, name).name)
    return tuple(dict.fromkeys(found))


def _inside(section: Any) -> Iterator[PartName]:
    """The data sets inside a data set's section: those that a mixture names, at any depth."""
    if not isinstance(section, Mapping) or section.get("name") != MIXTURE:
        return
    sources = section.get("sources")
    for source in sources if isinstance(sources, list | tuple) else ():
        yield from _named("dataset", source)
        yield from _inside(source)


def _of_suite(host: PluginHost, suite: str) -> Iterator[PartName]:
    """The suite itself, where a plugin ships it, and the parts that its file names."""
    if not suite.endswith((".yaml", ".yml")):
        yield "suite", suite
    with contextlib.suppress(DpoframeError, OSError):
        document = read_file(Path(host.get("suite", suite)))
        paths.resolve(document)
        evaluators = document.data.get("evaluators")
        for entry in evaluators if isinstance(evaluators, list) else ():
            yield from _named("evaluator", entry)
        for section in ("prompts", "pairs"):
            if isinstance(rows := document.data.get(section), Mapping):
                yield from _named("dataset", rows)
                yield from _inside(rows)


def _named(kind: str, entry: Any) -> Iterator[PartName]:
    """The part that an entry names: a word, or a mapping with the key `name`."""
    name = entry.get("name") if isinstance(entry, Mapping) else entry
    if isinstance(name, str) and name:
        yield kind, name
