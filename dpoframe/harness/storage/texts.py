"""Text that any file can hold: a model or an endpoint may give halves of characters, which no UTF-8 has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def well_formed(text: str) -> str:
    """The text with U+FFFD in the place of each lone surrogate; two halves that belong together become their character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def all_well_formed(value: Any) -> Any:
    """A plain value of JSON with all its texts, keys included, well formed."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, Mapping):
        return {all_well_formed(key): all_well_formed(one) for key, one in value.items()}
    return [all_well_formed(one) for one in value] if isinstance(value, list | tuple) else value


def is_well_formed(value: Any) -> bool:
    """Whether all texts of a plain value are."""
    if isinstance(value, str):
        return well_formed(value) is value
    if isinstance(value, Mapping):
        return all(is_well_formed(key) and is_well_formed(one) for key, one in value.items())
    return not isinstance(value, list | tuple) or all(map(is_well_formed, value))
