"""Keys of the store: digests of everything that made an entry, so that equal keys mean equal entries, whoever made them."""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from dpoframe.evaluator import Evaluator
from dpoframe.plugins import files
from dpoframe.types import Example, Measure, Request, content_digest


def digest(*parts: Any) -> str:
    """Hex digest of plain values: equal for equal values in any process; sets count in sorted order, mappings too."""
    return hashlib.blake2b(_ENCODER.encode(parts).encode(), digest_size=16).hexdigest()


def sample_key(model: str, request: Request, prompt: str, seen: str) -> str:
    """Key of an answer.

    Args:
        model: Digest of what writes it: weights with adapters, tokenizer, template, dtype, versions.
        request: Its seed and settings count, its id does not.
        prompt: Content digest of the prompt.
        seen: Digest of what the model sees of the prompt (its token ids), after truncation.
    """
    return digest("sample", model, prompt, seen, request.seed, dict(request.settings))


def logp_key(model: str, example: Example, seen: Measure) -> str:
    """Key of an example's score under a model: what the model sees of it, and its seed."""
    content = content_digest(example.prompt, example.response)
    return digest("logp", model, content, seen.digest, example.seed, example.finished)


def evaluator_key(evaluator: Evaluator) -> str:
    """What an evaluator is: id, version, arguments, and the digests of its assets.

    Also of the file that it stands in, where that is no package's and so has no version, and of the weights that an
    argument says it reads (a method `weights`).
    """
    spec = evaluator.spec
    given = asdict(evaluator) if is_dataclass(evaluator) else {}
    kind = f"{type(evaluator).__module__}.{type(evaluator).__qualname__}"
    beside = [one for one in (_code_of(type(evaluator)), *_weights_of(evaluator)) if one]
    return digest("evaluator", spec.id, spec.version, kind, given, sorted((one.name, one.digest) for one in spec.assets), *beside)


def _weights_of(evaluator: Evaluator) -> list[str]:
    """What the arguments say of the weights they read."""
    values = [getattr(evaluator, one.name) for one in fields(evaluator)] if is_dataclass(evaluator) else []
    return [str(one.weights()) for one in values if callable(getattr(one, "weights", None))]


def _code_of(kind: type) -> str:
    """Digest of the single files that a class and its bases stand in; empty where they all come from packages."""
    modules = (sys.modules.get(one.__module__) for one in kind.__mro__ if one.__module__.startswith(f"{files.__name__}."))
    return "".join(_code(one) for one in modules if one is not None)


@functools.cache
def _code(module: ModuleType) -> str:
    """Digest of a module's file, taken once: what was imported stays, whatever becomes of the file."""
    return hashlib.blake2b(Path(str(module.__file__)).read_bytes(), digest_size=16).hexdigest()


def mark(parts: Iterable[str]) -> bytes:
    """8 bytes that vouch for a stored entry: a flipped bit is found when the store is opened."""
    return hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=True, default=_plain)
