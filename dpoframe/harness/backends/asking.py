"""Asks a service for many things at once, in threads that nobody waits for once the asker is interrupted."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def answered(ask: Callable[[Item], Answer], items: Sequence[Item], width: int) -> Iterator[tuple[int, Answer]]:
    """Place and answer of each item, as they come, with `width` of them under way.

    Once one fails, or the caller stops, no other is begun, and those under way end with the process: `concurrent.futures`
    would wait for them, also where the process is told to end.

    Raises:
        Whatever `ask` raises.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, list[Answer], BaseException | None]] = queue.SimpleQueue()
    over = threading.Event()

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while not over.is_set():
                place = waiting.get_nowait()
                try:
                    done.put((place, [ask(items[place])], None))
                except BaseException as error:  # told in the asker's thread
                    over.set()
                    done.put((place, [], error))

    for place in range(len(items)):
        waiting.put(place)
    try:
        for _ in range(min(width, len(items))):
            threading.Thread(target=work, daemon=True).start()
        for _ in items:
            place, answer, error = done.get()
            if error is not None:
                raise error
            yield place, answer[0]
    finally:
        over.set()
