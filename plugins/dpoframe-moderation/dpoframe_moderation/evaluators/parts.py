"""The categories that have figures of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpoframe import ConfigError, Scale, UnscoredError
from dpoframe_moderation.taxonomy import OVERALL, Taxonomy, taxonomy


def parts_of(name: str, categories: tuple[str, ...]) -> tuple[str, ...]:
    """`overall`, then `categories`, or those of the taxonomy `name` where none are given.

    Raises:
        ConfigError: There is no such taxonomy, or a category is named twice.
    """
    found = (OVERALL, *(categories or (tuple(taxonomy(name).categories) if name else ())))
    if len(set(found)) < len(found):
        raise ConfigError(f"A category is named twice: {', '.join(found)}.")
    return found


def figure_name(part: str, figure: str) -> str:
    """`f1` overall, `hate/f1` of a category."""
    return figure if part == OVERALL else f"{part}/{figure}"


def scales_of(parts: tuple[str, ...], scales: Mapping[str, Scale]) -> dict[str, Scale]:
    """The scale of each figure of each part."""
    return {figure_name(part, name): scale for part in parts for name, scale in scales.items()}


def taxonomy_of(meta: Mapping[str, Any]) -> Taxonomy:
    """The taxonomy that a prompt or a pair was made for; UnscoredError where what it says is none."""
    found = meta.get("categories") or {}
    if not isinstance(found, Mapping):
        raise UnscoredError(f"`categories` of the prompt is {type(found).__name__}, expected words by key")
    return Taxonomy(str(meta.get("taxonomy", "")), {str(key): str(words) for key, words in found.items()})
