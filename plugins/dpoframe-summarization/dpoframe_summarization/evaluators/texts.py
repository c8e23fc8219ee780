"""What a sample holds for evaluators of summaries: the summary, its source, its references."""

from __future__ import annotations

from typing import Any

import regex  # type: ignore[import-untyped]

from dpoframe import Media, Sample, UnscoredError

# Zero-width and direction marks, soft hyphens, byte order marks, and control characters but for white space.
_UNSEEN = regex.compile(r"[\p{Cf}\p{Cs}]+")
_CONTROL = regex.compile(r"[^\P{Cc}\s]+")


def summary_of(sample: Sample) -> str:
    """The summary; UnscoredError where the response is no text."""
    if isinstance(sample.response, str):
        return sample.response
    if isinstance(sample.response, Media):
        raise UnscoredError(f"the response is {sample.response.kind}, expected text")
    return "\n".join(str(message.get("content", "")) for message in sample.response)


def source_of(sample: Sample) -> str:
    """What was summarized; UnscoredError where `meta["source"]` holds none."""
    found = _joined(sample.meta.get("source"))
    if not found:
        raise UnscoredError("there is no source: the prompt's row needs `source`, the text that was summarized")
    return found


def references_of(sample: Sample) -> list[str]:
    """The good summaries of `meta["reference"]` or `meta["references"]`: a text or a list; UnscoredError where there is none."""
    given = sample.meta.get("references") or sample.meta.get("reference")
    found = [one for one in _texts(given) if one.strip()]
    if not found:
        raise UnscoredError("there is no reference: the prompt's row needs `reference`, a good summary or a list of them")
    return found


def seen(text: str) -> str:
    """The text as a reader sees it: without zero-width marks, and with spaces for control characters."""
    return str(_CONTROL.sub(" ", _UNSEEN.sub("", text)))


def _joined(given: Any) -> str:
    """A source that is a list of sentences or paragraphs is put together."""
    text = "\n".join(_texts(given))
    return text if text.strip() else ""


def _texts(given: Any) -> list[str]:
    """The texts of a text or a list; whatever else stands there is none."""
    parts = [given] if isinstance(given, str) else given
    return [one for one in parts if isinstance(one, str)] if isinstance(parts, list | tuple) else []
