"""Telling whether two contents, or two prompts, are the same."""

from __future__ import annotations

import hashlib
from typing import Any

from dpoframe.types import Content, Media, content_digest


def part_digest(content: Content) -> bytes:
    """16 bytes, equal for equal content only; several times quicker than `content_digest` for texts.

    Raises:
        OSError: a media file cannot be read.
        TypeError: a message holds something that is no plain value.
    """
    if isinstance(content, str):
        return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16, person=b"text").digest()
    return bytes.fromhex(content_digest(content))


def prompt_digest(prompt: Content) -> bytes:
    """16 bytes, equal for prompts that say the same: white space counts once, one user message equals its text alone."""
    if isinstance(prompt, Media):
        return part_digest(prompt)
    if isinstance(prompt, str):
        return part_digest(" ".join(prompt.split()))
    if len(prompt) == 1 and prompt[0].get("role") == "user" and isinstance(prompt[0].get("content"), str):
        return prompt_digest(str(prompt[0]["content"]))
    return part_digest([_squeezed(message) for message in prompt])


def _squeezed(message: Any) -> Any:
    content = message.get("content")
    return {**message, "content": " ".join(content.split()) if isinstance(content, str) else content}
