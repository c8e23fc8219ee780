"""Keys of the store: digests of everything that made an entry, so that equal keys mean equal entries, whoever made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from dpoframe.evaluator import Evaluator
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
    """What an evaluator is: id, version, arguments, and the digests of its assets."""
    spec = evaluator.spec
    fields = asdict(evaluator) if is_dataclass(evaluator) else {}
    kind = f"{type(evaluator).__module__}.{type(evaluator).__qualname__}"
    return digest("evaluator", spec.id, spec.version, kind, fields, sorted((one.name, one.digest) for one in spec.assets))


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
