"""The layouts in which preference data is published, each with the columns it needs and how a row becomes a pair."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dpoframe.data.contents import (
    ASSISTANT_MARK,
    assistant,
    messages_of,
    shared_messages,
    shared_text,
    split_dialogue,
    text_of,
    turns,
    user,
)
from dpoframe.data.media import is_media, media_of
from dpoframe.data.rows import RawRow, RowError, shown
from dpoframe.types import Content, Media, Message, PreferencePair

Values = Mapping[str, Any]


class Parts(NamedTuple):
    """What a layout finds in a row. `meta` is what it knows besides, under dpoframe's own names."""

    prompt: Content
    chosen: Content
    rejected: Content
    meta: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Layout:
    """One way to lay out preferences in columns.

    Attributes:
        name: What a recipe names it.
        needs: Columns that every row has.
        shape: Whether a row with these columns is of this layout, told by the types of its values.
        parts: Makes the parts of a pair; raises RowError.
        example: A row in words.
        optional: Further columns that `columns:` may map.
    """

    name: str
    needs: tuple[str, ...]
    shape: Callable[[Values], bool]
    parts: Callable[[Values], Parts]
    example: str
    optional: tuple[str, ...] = ()

    def fits(self, values: Values) -> bool:
        """Whether a row looks like this layout."""
        return all(name in values for name in self.needs) and self.shape(values)

    def pair(self, raw: RawRow) -> PreferencePair:
        """The pair of a row; its short, plain columns that the layout does not use go to `meta`."""
        parts = self.parts(raw.values)
        used = {*self.needs, *self.optional}
        rest = {key: value for key, value in raw.values.items() if key not in used and _is_short(value)}
        meta = {**rest, **parts.meta, "origin": raw.source, "row": raw.row}
        return PreferencePair(parts.prompt, parts.chosen, parts.rejected, weight=_weight(raw.values), meta=meta)


@dataclass(frozen=True)
class MediaLayout(Layout):
    """A layout whose prompt and responses may be objects that name files, found beside the rows."""

    def pair(self, raw: RawRow) -> PreferencePair:
        """The pair of a row, with the files in the place of their names."""
        folder = Path(raw.source).parent
        values = {key: media_of(value, folder) if is_media(value) else value for key, value in raw.values.items()}
        return super().pair(RawRow(raw.source, raw.row, values))


def _is_short(value: Any) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 200)


def _weight(values: Values) -> float:
    weight = values.get("weight")
    try:
        number = 1.0 if weight is None else float(weight)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number < 0 or isinstance(weight, bool):
        raise RowError("wrong-weight", f"The weight must be a number of at least 0, found {shown(weight)}.")
    return number


def _is_text(values: Values, *names: str) -> bool:
    return all(isinstance(values.get(name), str | None) for name in names)


def _is_chat(values: Values, *names: str) -> bool:
    return all(isinstance(values.get(name), list) for name in names)


def _is_dialogue(values: Values) -> bool:
    return all(isinstance(values.get(name), str) and ASSISTANT_MARK in values[name] for name in ("chosen", "rejected"))


def _no_prompt(values: Values) -> bool:
    return values.get("prompt") is None and not {"question", "instruction", "conversations"} & set(values)


def _response(values: Values, column: str, meaning: str) -> list[Message]:
    """The messages of a response that may be given as messages or as bare text."""
    if isinstance(values.get(column), str):
        return [assistant(values[column])]
    return messages_of(values, column, meaning)


def _plain(values: Values) -> Parts:
    return Parts(text_of(values, "prompt", "prompt"), text_of(values, "chosen", "chosen"), text_of(values, "rejected", "rejected"))


def _media(values: Values) -> Parts:
    prompt, (chosen, rejected) = values.get("prompt"), (_picture(values, name) for name in ("chosen", "rejected"))
    if not isinstance(prompt, Media):
        prompt = messages_of(values, "prompt", "prompt") if isinstance(prompt, list) else text_of(values, "prompt", "prompt")
    return Parts(prompt, chosen, rejected)


def _picture(values: Values, column: str) -> Media:
    value = values.get(column)
    if value is None:
        raise RowError(f"empty-{column}", f"There is no {column!r}.")
    if not isinstance(value, Media):
        raise RowError("wrong-type", f"{column!r} must name a file, as {{'media': 'image', 'path': ...}}, found {shown(value)}.")
    return value


def _chat(values: Values) -> Parts:
    prompt = messages_of(values, "prompt", "prompt")
    return Parts(prompt, _response(values, "chosen", "chosen"), _response(values, "rejected", "rejected"))


def _implicit(values: Values) -> Parts:
    return Parts(*shared_text(text_of(values, "chosen", "chosen"), text_of(values, "rejected", "rejected")))


def _implicit_chat(values: Values) -> Parts:
    return Parts(*shared_messages(messages_of(values, "chosen", "chosen"), messages_of(values, "rejected", "rejected")))


def _ultrafeedback(values: Values) -> Parts:
    """UltraFeedback binarized: the dialogues repeat the prompt, which is given as a string as well."""
    chosen, rejected = messages_of(values, "chosen", "chosen"), messages_of(values, "rejected", "rejected")
    if any(side and side[0]["role"] != "assistant" for side in (chosen, rejected)):
        return Parts(*shared_messages(chosen, rejected))
    return Parts([user(text_of(values, "prompt", "prompt"))], chosen, rejected)


def _hh_text(values: Values) -> Parts:
    r"""HH-RLHF as texts: the prompt ends with the last `\n\nAssistant:`, the response keeps its leading space."""
    prompt, chosen = split_dialogue(text_of(values, "chosen", "chosen"), "chosen")
    other, rejected = split_dialogue(text_of(values, "rejected", "rejected"), "rejected")
    if prompt != other:
        raise RowError("prompts-differ", "The two dialogues differ before their last '\\n\\nAssistant:'.")
    if "\n\nHuman:" in chosen + rejected:
        raise RowError("wrong-type", "A dialogue ends with a '\\n\\nHuman:' turn; it must end with the assistant's.")
    return Parts(prompt, chosen, rejected)


def _hh(values: Values) -> Parts:
    prompt, chosen, rejected, _ = _hh_text(values)
    return Parts(turns(str(prompt)), [assistant(str(chosen).strip())], [assistant(str(rejected).strip())])


def _sharegpt(values: Values) -> Parts:
    prompt = messages_of(values, "conversations", "prompt")
    if isinstance(values.get("system"), str) and values["system"]:
        prompt = [{"role": "system", "content": values["system"]}, *prompt]
    return Parts(prompt, _response(values, "chosen", "chosen"), _response(values, "rejected", "rejected"))


def _alpaca(values: Values) -> Parts:
    request = text_of(values, "instruction", "prompt")
    if values.get("input"):
        request = f"{request}\n{text_of(values, 'input', 'prompt')}"
    return _with_system(values, request)


def _question(values: Values) -> Parts:
    return _with_system(values, text_of(values, "question", "prompt"))


def _with_system(values: Values, request: str) -> Parts:
    system = [{"role": "system", "content": text_of(values, "system", "prompt")}] if values.get("system") else []
    prompt = [*system, user(request)] if request.strip() else []
    return Parts(prompt, _response(values, "chosen", "chosen"), _response(values, "rejected", "rejected"))


def _openai(values: Values) -> Parts:
    """OpenAI's summary comparisons (Stiennon et al., 2020, arXiv:2009.01325), with the paper's prompt for Reddit posts."""
    info, summaries, choice = values.get("info"), values.get("summaries"), values.get("choice")
    if not isinstance(info, Mapping) or not isinstance(summaries, list) or len(summaries) != 2:
        raise RowError(
            "wrong-type", f"'info' must be an object and 'summaries' a list of two, found {shown(info)}, {shown(summaries)}."
        )
    first = _choice(choice, "choice")
    if not all(isinstance(summary, Mapping) for summary in summaries):
        raise RowError("wrong-type", f"Each of 'summaries' must be an object with a text, found {shown(summaries)}.")
    chosen, rejected = summaries[first], summaries[1 - first]
    meta = {"chosen_source": chosen.get("policy"), "rejected_source": rejected.get("policy")}
    texts = text_of(chosen, "text", "chosen"), text_of(rejected, "text", "rejected")
    return Parts(_summary_prompt(info), *texts, {key: value for key, value in meta.items() if isinstance(value, str)})


def _summary_prompt(info: Values) -> str:
    if info.get("article"):
        return f"Article: {text_of(info, 'article', 'prompt')}\n\nTL;DR:"
    post = text_of(info, "post", "prompt").strip()
    if not post:
        raise RowError("empty-prompt", "'info' holds an empty post and no article.")
    lines = [f"SUBREDDIT: r/{info['subreddit']}"] if info.get("subreddit") else []
    lines += [f"TITLE: {str(info['title']).strip()}"] if info.get("title") else []
    return "\n".join([*lines, f"POST: {post}", "TL;DR:"])


def _choice(value: Any, column: str) -> int:
    number = int(value) if isinstance(value, str) and value.strip() in {"0", "1", "-1"} else value
    if number is None or number in (-1, 0.5):
        raise RowError("tie", f"{column!r} is {value!r}: neither response is preferred.")
    if isinstance(number, bool) or number not in (0, 1):
        raise RowError("wrong-type", f"{column!r} must be 0 or 1, found {shown(value)}.")
    return int(number)


def _pku(column: str) -> Callable[[Values], Parts]:
    def parts(values: Values) -> Parts:
        first = _choice(values.get(column), column)
        names = (f"response_{first}", f"response_{1 - first}")
        known = {
            f"{side}_{what}": values.get(source)
            for side, name in zip(("chosen", "rejected"), names, strict=True)
            for what, source in (("source", f"{name}_source"), ("safe", f"is_{name}_safe"))
        }
        meta = {key: value for key, value in known.items() if isinstance(value, str | bool)}
        texts = text_of(values, names[0], "chosen"), text_of(values, names[1], "rejected")
        return Parts(text_of(values, "prompt", "prompt"), *texts, meta)

    return parts


def _code(values: Values) -> Parts:
    return Parts(text_of(values, "input", "prompt"), text_of(values, "accepted", "chosen"), text_of(values, "rejected", "rejected"))


_PAIR = ("chosen", "rejected")
_SAFE_RLHF = ("prompt", "response_0", "response_1")
_ALL = (
    Layout("plain", ("prompt", *_PAIR), lambda v: v["prompt"] is not None and _is_text(v, "prompt", *_PAIR), _plain, "three texts"),
    MediaLayout(
        "media",
        ("prompt", *_PAIR),
        lambda v: any(is_media(v[name]) for name in _PAIR),
        _media,
        "chosen and rejected objects that name files beside the rows",
    ),
    Layout(
        "chat",
        ("prompt", *_PAIR),
        lambda v: _is_chat(v, "prompt") and not any(is_media(v[name]) for name in _PAIR),
        _chat,
        "prompt a list of chat messages, responses messages or texts",
    ),
    Layout(
        "ultrafeedback",
        ("prompt", *_PAIR),
        lambda v: isinstance(v["prompt"], str) and _is_chat(v, *_PAIR),
        _ultrafeedback,
        "prompt a text, chosen and rejected lists of chat messages",
    ),
    Layout(
        "implicit",
        _PAIR,
        lambda v: _no_prompt(v) and _is_text(v, *_PAIR) and not _is_dialogue(v),
        _implicit,
        "two texts that begin with the same prompt",
    ),
    Layout(
        "implicit_chat",
        _PAIR,
        lambda v: _no_prompt(v) and _is_chat(v, *_PAIR),
        _implicit_chat,
        "two lists of chat messages that begin with the same prompt",
    ),
    Layout(
        "hh",
        _PAIR,
        lambda v: _no_prompt(v) and _is_dialogue(v),
        _hh,
        "two transcripts of '\\n\\nHuman:' and '\\n\\nAssistant:' turns, read as chat",
    ),
    Layout("hh_text", _PAIR, lambda v: False, _hh_text, "the same, kept as texts; taken only where it is named"),
    Layout(
        "sharegpt",
        ("conversations", *_PAIR),
        lambda v: _is_chat(v, "conversations"),
        _sharegpt,
        "conversations a list of {from, value}, responses one each",
        ("system",),
    ),
    Layout(
        "alpaca",
        ("instruction", *_PAIR),
        lambda v: _is_text(v, "instruction"),
        _alpaca,
        "instruction and input, texts",
        ("input", "system"),
    ),
    Layout(
        "question",
        ("question", *_PAIR),
        lambda v: _is_text(v, "question"),
        _question,
        "question, with or without system, texts",
        ("system",),
    ),
    Layout(
        "openai_comparisons",
        ("info", "summaries", "choice"),
        lambda v: isinstance(v["info"], Mapping),
        _openai,
        "info with post and title or article, two summaries, choice 0 or 1",
    ),
    Layout(
        "pku_better",
        (*_SAFE_RLHF, "better_response_id"),
        lambda v: True,
        _pku("better_response_id"),
        "the more helpful response is chosen",
    ),
    Layout(
        "pku_safer", (*_SAFE_RLHF, "safer_response_id"), lambda v: True, _pku("safer_response_id"), "the safer response is chosen"
    ),
    Layout("code_pairs", ("input", "accepted", "rejected"), lambda v: _is_text(v, "input"), _code, "three texts"),
)

LAYOUTS: Mapping[str, Layout] = {layout.name: layout for layout in _ALL}
"""Every layout by name."""
