"""What a model brings besides numbers: code of its own, and pickles, which are code too."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from dpoframe import CheckpointError
from dpoframe_text.source import Source

_told: set[str] = set()
_CONFIGS = ("config.json", "tokenizer_config.json")


def told_of_code(source: Source, revision: str | None, online: bool) -> None:
    """Warns, once a process, of the code that a model brings and that will run because the recipe allows it.

    The warning names where the code comes from: the folder, or repository and revision, another repository among them where
    the model's settings point to one.
    """
    for warning in _warnings(source, revision, online):
        if warning not in _told:
            _told.add(warning)
            warnings.warn(warning, RuntimeWarning, stacklevel=2)


@lru_cache(maxsize=64)
def _warnings(source: Source, revision: str | None, online: bool) -> tuple[str, ...]:
    files = sorted({named for config in _CONFIGS for named in _named(_settings(source, revision, online, config))})
    origins: dict[str, list[str]] = {}
    for repository, module in files:
        origins.setdefault(repository or source.where, []).append(f"{module}.py")
    return tuple(_warning(origin, names, source, revision) for origin, names in origins.items())


def _warning(origin: str, names: list[str], source: Source, revision: str | None) -> str:
    from_hub = source.kind == "hub" or origin != source.where
    own = revision if origin == source.where else None
    at = f" at revision {own}" if own else " at its newest revision (give `revision`, a commit, to fix it)" if from_hub else ""
    return f"trust_remote_code: the code that {source} brings runs now: {', '.join(names)} of {origin}{at}."


def _named(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(repository, module) of every class in `auto_map`; the repository is empty for the model's own."""
    found = settings.get("auto_map")
    values = found.values() if isinstance(found, Mapping) else found if isinstance(found, list) else ()
    for value in values:
        for name in value if isinstance(value, list | tuple) else [value]:
            if isinstance(name, str):
                repository, _, rest = name.rpartition("--")
                yield repository, rest.split(".")[0]


def _settings(source: Source, revision: str | None, online: bool, name: str) -> Mapping[str, Any]:
    """A settings file of a model; empty where it has none or it cannot be had, which loading then tells of."""
    try:
        place = Path(source.where) / name if source.kind == "folder" else Path(_fetched(source.where, revision, online, name))
        found = json.loads(place.read_text(encoding="utf-8"))
    except Exception:  # the hub's client raises errors of many libraries
        return {}
    return found if isinstance(found, Mapping) else {}


def _fetched(model: str, revision: str | None, online: bool, name: str) -> str:
    from huggingface_hub import hf_hub_download

    return str(hf_hub_download(model, name, revision=revision, local_files_only=not online))


def require_no_pickle(source: Source, stem: str) -> None:
    """CheckpointError where a folder holds weights as pickles alone, which may run code when they are read.

    Args:
        source: The model.
        stem: How the files begin: `model` or `pytorch_model`, `adapter_model`.
    """
    if source.kind != "folder":
        return
    folder = Path(source.where)
    stems = ("model", "pytorch_model") if stem == "model" else (stem,)
    pickles = sorted(file.name for one in stems for ending in ("bin", "pt", "pth") for file in folder.glob(f"{one}*.{ending}"))
    if pickles and not any(folder.glob(f"{stem}*.safetensors")):
        raise CheckpointError(f"{source} holds its weights as pickles ({', '.join(pickles[:3])}), {PICKLED}")


PICKLED = (
    "and a pickle can run code when it is read, so none is. Get the model in safetensors: the hub converts on request, and "
    "`model.save_pretrained(folder)` of transformers or peft writes them where you trust the file."
)
