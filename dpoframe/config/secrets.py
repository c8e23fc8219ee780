"""Keeps passwords and tokens out of what a run writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "***"
_KEY = re.compile(
    r"(.*_)?(password|passwd|passphrase|secret|secrets|credential|credentials|api_?key|access_?key|private_?key|secret_?key"
    r"|(api|auth|access|bearer|hub|hf|wandb|github|refresh)_?token)|token|use_auth_token",
    re.IGNORECASE,
)
_VALUE = re.compile(r"hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16}")
_URL = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://)[^/@\s]+@", re.IGNORECASE)


def is_secret(key: object, value: object) -> bool:
    """Whether a key's name, or a value's form, says password or token."""
    if not isinstance(value, str) or not value:
        return False
    return _KEY.fullmatch(str(key)) is not None or _VALUE.search(value) is not None


def masked(value: Any, key: object = "") -> Any:
    """`value` with every secret in it replaced by `***`, and names and passwords taken out of addresses."""
    if isinstance(value, Mapping):
        return {name: masked(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item, key) for item in value]
    if is_secret(key, value):
        return MASK
    return _URL.sub(rf"\g<head>{MASK}@", value) if isinstance(value, str) else value
