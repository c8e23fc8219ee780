"""Digests of weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def tensors_digest(named: Iterable[tuple[str, Tensor]]) -> str:
    """Hex digest of tensors by name: their names, types, shapes and bytes, in whatever order they are given.

    Every tensor is digested apart, as many at a time as torch may use threads (`hashlib` lets go of the interpreter's
    lock), and the whole is the digest of the parts.
    """
    import torch

    whole = hashlib.blake2b(digest_size=16)
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as threads:
        for part in threads.map(_tensor_digest, sorted(named, key=lambda entry: entry[0])):
            whole.update(part)
    return whole.hexdigest()


def _tensor_digest(entry: tuple[str, Tensor]) -> bytes:
    import torch

    name, tensor = entry
    plain = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
    digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.digest()
