"""Telling whether two prompts are the same."""

from __future__ import annotations

from typing import Any

from dpoframe.types import Content, Media, content_digest


def prompt_digest(prompt: Content) -> bytes:
    """16 bytes, equal for prompts that say the same: white space counts once, one user message equals its text alone."""
    if isinstance(prompt, Media):
        return bytes.fromhex(content_digest(prompt))
    if isinstance(prompt, str):
        return bytes.fromhex(content_digest(" ".join(prompt.split())))
    if len(prompt) == 1 and prompt[0].get("role") == "user" and isinstance(prompt[0].get("content"), str):
        return prompt_digest(str(prompt[0]["content"]))
    return bytes.fromhex(content_digest([_squeezed(message) for message in prompt]))


def _squeezed(message: Any) -> Any:
    content = message.get("content")
    return {**message, "content": " ".join(content.split()) if isinstance(content, str) else content}
