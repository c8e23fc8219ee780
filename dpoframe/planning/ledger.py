"""A step run without numbers: what it would keep in memory, and how many floating-point operations it would do.

Tensors of floating-point numbers are torch's fake ones, which have a type, a shape and a storage of a size, and no content.
Integers, which say where a token is or which example belongs to which, are real: code that reads them goes its usual way. Where
code asks a fake number for its value, as in `if (a - b).abs().max() < tolerance`, it is told 1, or true.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from dpoframe.planning.heap import Heap

ACTIVATIONS = "activations"
"""What a tensor counts as until it is said to be something else."""

_aten = torch.ops.aten


def _attention_on_cpu(query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_on_cpu_backward(upstream: Any, query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> int:
    return int(sdpa_backward_flop_count(upstream, query, key, value))


# torch counts the kernels of GPUs; these are the same sums for the one of CPUs.
_MORE_COUNTS: dict[Any, Callable[..., int]] = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention_on_cpu,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_on_cpu_backward,
}


class Ledger(TorchDispatchMode):
    """Watches every operation inside its context, which lies within that of a `FakeTensorMode`.

    Attributes:
        now: Bytes that are alive, by what they are for.
        peak: The same at the moment when they were most.
        largest: Bytes and shape of the largest tensor that was made.
        operations: Floating-point operations so far, a multiplication and an addition each counting as one.
        seen: Names of torch's operations that came, such as `aten::convolution`.
        heap: What the C library holds for the same.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: Counter[str] = Counter()
        self.peak: dict[str, int] = {}
        self.largest: tuple[int, tuple[int, ...]] = (0, ())
        self.operations = 0
        self.seen: set[str] = set()
        self.heap = Heap()
        self._highest = 0
        self._kinds: dict[int, str] = {}
        self._alive: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Runs one operation for real where it is on integers, else on fake tensors, and notes what came of it."""
        named = dict(kwargs or {})
        if func is _aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            return _one(args[0].dtype)
        if _is_real(func, args, named):
            with unset_fake_temporarily():
                return func(*args, **named)
        out = func(*args, **named)
        self.seen.add(func._schema.name)
        self._count(func, args, named, out)
        for tensor in tree_leaves(out):
            if isinstance(tensor, FakeTensor):
                self.note(tensor, ACTIVATIONS, again=False)
        return out

    def note(self, tensor: Tensor, kind: str, *, again: bool = True) -> None:
        """Says what a tensor is for; its storage counts once. With `again` it may have counted as something else before."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._kinds:
            if again and self._kinds[key] != kind:
                self.now[self._kinds[key]] -= size
                self.now[kind] += size
                self._kinds[key] = kind
            return
        self._kinds[key] = kind
        self._alive[key] = weakref.ref(storage, lambda _: self._freed(key, size))
        self.now[kind] += size
        self.heap.take(key, size)
        if size > self.largest[0] and kind == ACTIVATIONS:
            self.largest = size, tuple(tensor.shape)
        total = sum(self.now.values())
        if total > self._highest:
            self._highest, self.peak = total, {name: count for name, count in self.now.items() if count}

    def forget_peak(self) -> None:
        """Starts to look for the peak anew."""
        self._highest, self.peak, self.largest = 0, {}, (0, ())

    def _freed(self, key: int, size: int) -> None:
        self._alive.pop(key, None)
        self.now[self._kinds.pop(key)] -= size
        self.heap.give(key)

    def _count(self, func: Any, args: Any, named: Mapping[str, Any], out: Any) -> None:
        packet = func._overloadpacket
        formula = flop_registry.get(packet)
        if formula is not None:
            self.operations += int(formula(*args, **named, out_val=out))
        elif packet in _MORE_COUNTS:
            shapes = [one.shape if isinstance(one, Tensor) else one for one in args]
            self.operations += _MORE_COUNTS[packet](*shapes)


def _one(kind: torch.dtype) -> bool | int | float:
    if kind == torch.bool:
        return True
    return 1.0 if kind.is_floating_point else 1


def _is_real(func: Any, args: Any, named: Mapping[str, Any]) -> bool:
    """Whether an operation has nothing fake about it: real tensors come in, or none does and integers go out."""
    tensors = [one for one in tree_flatten((args, named))[0] if isinstance(one, Tensor)]
    if tensors:
        return not any(isinstance(one, FakeTensor) for one in tensors)
    kind = named.get("dtype")
    return kind is not None and not kind.is_floating_point and _on_cpu(named)


def _on_cpu(named: Mapping[str, Any]) -> bool:
    return torch.device(named.get("device") or "cpu").type == "cpu"
