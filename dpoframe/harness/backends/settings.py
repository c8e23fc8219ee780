"""A suite's generation settings by the names that vLLM and OpenAI's protocol have for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpoframe.errors import ConfigError, Fault, suggestion

NAMES = {
    "max_new_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "repetition_penalty": "repetition_penalty",
    "stop": "stop",
}
_DRAWS = "do_sample"


def translated(settings: Mapping[str, Any], who: str) -> dict[str, Any]:
    """The settings as `who` takes them. Without a temperature the likeliest token is taken, as the modality does.

    Raises:
        ConfigError: a setting has no counterpart; all of them are named.
    """
    if unknown := sorted(set(settings) - {*NAMES, _DRAWS}):
        faults = [Fault(f"generation.{key}", f"{who} has no such setting.", suggestion(key, NAMES)) for key in unknown]
        raise ConfigError(f"These generation settings cannot be handed to {who}:", faults)
    made = {name: _plain(settings[key]) for key, name in NAMES.items() if settings.get(key) is not None}
    draws = settings.get(_DRAWS)
    temperature = made.get("temperature", 0.0)
    if draws is not None:
        temperature = (temperature or 1.0) if draws else 0.0
    return {**made, "temperature": temperature}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
