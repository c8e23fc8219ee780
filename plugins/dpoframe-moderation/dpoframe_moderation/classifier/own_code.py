"""Code that a model brings: named before it runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from dpoframe_moderation.classifier.quiet import quiet
from dpoframe_moderation.classifier.source import Source


@lru_cache(maxsize=64)
def tell_of_code(source: Source, revision: str | None) -> None:
    """Warns, once a process, of the code that runs because the recipe allows it: its files, and where each comes from.

    That is the folder, or a repository with its revision, another one among them where the model's settings point to one.
    """
    origins: dict[str, set[str]] = {}
    for repository, module in (named for settings in _settings(source, revision) for named in named_in(settings)):
        origins.setdefault(repository or source.where, set()).add(f"{module}.py")
    for origin, files in origins.items():
        warnings.warn(told(origin, sorted(files), source, revision), RuntimeWarning, stacklevel=4)


def told(origin: str, files: list[str], source: Source, revision: str | None) -> str:
    """The warning of the files of one origin."""
    own = revision if origin == source.where else None
    at = "" if source.kind == "folder" and origin == source.where else f" at revision {own}" if own else " at its newest revision"
    return f"trust_remote_code: the code that {source} brings runs now: {', '.join(files)} of {origin}{at}."


def named_in(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(repository, module) of every class in `auto_map`; the repository is empty for the model's own."""
    found = settings.get("auto_map")
    for value in found.values() if isinstance(found, Mapping) else found if isinstance(found, list) else ():
        for name in value if isinstance(value, list | tuple) else [value]:
            if isinstance(name, str):
                repository, _, rest = name.rpartition("--")
                yield repository, rest.split(".")[0]


def _settings(source: Source, revision: str | None) -> Iterator[Mapping[str, Any]]:
    """What `config.json` and `tokenizer_config.json` say; nothing of one that cannot be had, which loading then tells of."""
    from transformers import PretrainedConfig
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    where, options = source.arguments(revision, trust_remote_code=False)
    ways: list[Callable[[], Mapping[str, Any]]] = [
        lambda: PretrainedConfig.get_config_dict(where, **options)[0],
        lambda: get_tokenizer_config(where, **options),
    ]
    for read in ways:
        try:
            with quiet():
                found = read()
        except Exception:  # the hub's client raises errors of many libraries
            continue
        yield found
