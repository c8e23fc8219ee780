"""The inner end of the wire."""

from __future__ import annotations

import os
from typing import Any

from dpoframe_code.sandbox.wire import frame, message


class Channel:
    """Frames over a descriptor, waited for."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, content: dict[str, object]) -> None:
        """Sends a message.

        Raises:
            WireError: It is too large.
            OSError: The wire is gone.
        """
        left = memoryview(frame(content))
        while left:
            left = left[os.write(self._descriptor, left) :]

    def receive(self) -> dict[str, Any] | None:
        """The next message, or None where the other end has closed the wire."""
        head = self._exactly(4)
        payload = self._exactly(int.from_bytes(head, "big")) if head else None
        return message(payload) if payload is not None else None

    def _exactly(self, count: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < count:
            part = os.read(self._descriptor, count - len(parts))
            if not part:
                return None
            parts += part
        return bytes(parts)
