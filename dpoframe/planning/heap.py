"""How much memory the C library holds for tensors that come and go on a CPU.

Blocks that are freed do not go back to the system at once, and what is asked for next may not fit into them: a run on glibc
has been seen to hold half as much again as its tensors. How much it is follows from sizes, order and the allocator. So the
allocator is asked: the same blocks are taken of it and given back in the same order, and never written to, which costs no memory.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_ALIGNMENT = 64
"""That of torch's blocks on a CPU."""


class Heap:
    """Blocks of the C library's own allocator, whose place is taken and whose pages are not.

    Attributes:
        highest: The most bytes that were held for them, those between them that are free included; None where it cannot be told:
            on other systems than Linux, or where so much address space is not given out.
    """

    def __init__(self) -> None:
        self.highest: int | None = None
        self._blocks: dict[int, tuple[int, int]] = {}  # address, and size where it lies outside the heap
        self._mapped = 0
        self._library = _library()
        if self._library is not None:
            self.highest, self._begin = 0, self._library.sbrk(0)

    def take(self, name: int, size: int) -> None:
        """A block is asked for; `name` is what it is given back by."""
        if self._library is None or not size:
            return
        place = ctypes.c_void_p()
        if self._library.posix_memalign(ctypes.byref(place), _ALIGNMENT, size) or place.value is None:
            self.release()
            self._library, self.highest = None, None
            return
        end = self._library.sbrk(0)
        outside = size if not self._begin <= place.value < end else 0
        self._blocks[name] = place.value, outside
        self._mapped += outside
        self.highest = max(self.highest or 0, self._mapped + end - self._begin)

    def give(self, name: int) -> None:
        """A block is given back."""
        if self._library is not None and name in self._blocks:
            place, outside = self._blocks.pop(name)
            self._library.free(place)
            self._mapped -= outside

    def release(self) -> None:
        """Gives back all blocks."""
        for name in list(self._blocks):
            self.give(name)


def _library() -> Any:
    """The C library, its functions declared; None where there is none that can be asked."""
    if sys.platform != "linux":
        return None
    found = ctypes.CDLL(None)
    try:
        found.sbrk.restype, found.sbrk.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t]
        found.free.restype, found.free.argtypes = None, [ctypes.c_void_p]
        found.posix_memalign.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t, ctypes.c_size_t]
    except AttributeError:
        return None
    return found
