"""Relative paths in a recipe start from the recipe's own folder; the resolved recipe holds absolute ones.

What counts as a path: a string that starts with `./`, `../` or `~/`, wherever it stands; a Python file given as a part
(`mine.py:Thing`) or a YAML file given as a suite; the value of a key called path, model, file or folder (and their
plurals) where such a file exists, first beside the recipe, then in the current folder, or where it ends like a data file;
and every field that its class annotates as `Path`. What is set with `--set` starts from the current folder.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from dpoframe.config.document import Document, KeyPath

_SIGNS = ("./", "../", "~/")
_KEYS = {"path", "paths", "model", "models", "file", "files", "folder", "folders"}
_ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gz", ".gguf", ".safetensors")
_PROSE = {"name", "description"}
TASK = "lm_eval:"
"""What a suite's name begins with where it is a task of lm-evaluation-harness."""


def resolve(document: Document, sections: Collection[str] | None = None) -> None:
    """Makes the paths in `document` absolute, in place; those of `sections` alone where given."""
    for key, value in document.data.items():
        if key not in _PROSE and (sections is None or key in sections):
            document.data[key] = _resolved(value, (key,), document)


def _resolved(value: Any, path: KeyPath, document: Document) -> Any:
    if isinstance(value, dict):
        return {key: _resolved(item, (*path, key), document) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, (*path, index), document) for index, item in enumerate(value)]
    return _text(value, path, document) if isinstance(value, str) and value else value


def _text(text: str, path: KeyPath, document: Document) -> str:
    folder = document.folder(path)
    if path[0] == "evaluate" and text.startswith(TASK):
        return TASK + _text(text.removeprefix(TASK), path, document)
    if text.startswith(_SIGNS) or text in (".", "..") or _is_file_part(text, path):
        return _joined(folder, text)
    named = next((key for key in reversed(path) if isinstance(key, str)), "")
    if named in _KEYS and "\0" not in text and not text.startswith("/"):
        there = next((place for place in (folder, Path.cwd()) if os.path.lexists(place / text)), None)
        # A name that ends like a file's is no hub's id: where it is missing, the message should say where it was expected.
        there = folder if there is None and text.endswith(_ENDINGS) else there
        return _joined(there, text) if there else text
    return text


def _is_file_part(text: str, path: KeyPath) -> bool:
    """Whether the text is a file that stands for a part's name: `mine.py:Thing`, `mine.py`, `suite.yaml`."""
    head = text.partition(":")[0] if not text.startswith("/") else text
    if path[0] == "evaluate" and text.endswith((".yaml", ".yml")):
        return True
    return head.endswith(".py") and (path[-1] == "name" or path[0] == "plugins" or len(path) <= 2)


def _joined(folder: Path, text: str) -> str:
    """The absolute path, links kept as they are; what follows `.py:` stays on it."""
    return os.path.normpath(folder / Path(text).expanduser())
