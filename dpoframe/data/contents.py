"""Reading prompts and responses out of the values of a row, and finding the prompt that two dialogues share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from dpoframe.data.rows import RowError, shown
from dpoframe.types import Content, Message

ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
"""Roles in the wild, and the role each stands for."""

_KEPT = ("tool_calls", "tool_call_id", "name")
_MISSING = {"prompt": "prompt-missing", "chosen": "empty-chosen", "rejected": "empty-rejected"}
ASSISTANT_MARK = "\n\nAssistant:"
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def text_of(values: Mapping[str, Any], column: str, meaning: str) -> str:
    """The string in `column`; `meaning` (prompt, chosen or rejected) names what is missing where there is none."""
    value = values.get(column)
    if value is None:
        raise RowError(_MISSING[meaning], f"There is no {column!r}.")
    if not isinstance(value, str):
        raise RowError("wrong-type", f"{column!r} must be a string, found {shown(value)}.")
    return value


def messages_of(values: Mapping[str, Any], column: str, meaning: str) -> list[Message]:
    """The chat messages in `column`: a list of them, or one alone, in the role/content or the from/value form."""
    value = values.get(column)
    if value is None:
        raise RowError(_MISSING[meaning], f"There is no {column!r}.")
    items = [value] if isinstance(value, Mapping) else value
    if not isinstance(items, Sequence) or isinstance(items, str | bytes):
        raise RowError("wrong-type", f"{column!r} must be a list of chat messages, found {shown(value)}.")
    return [_message(item, f"{column}[{index}]") for index, item in enumerate(items)]


def _message(item: Any, where: str) -> Message:
    if not isinstance(item, Mapping):
        raise RowError("wrong-type", f"{where} must be a chat message with role and content, found {shown(item)}.")
    role = item.get("role", item.get("from"))
    content = item.get("content", item.get("value"))
    if not isinstance(role, str):
        raise RowError("wrong-type", f"{where} must have a role (or from), found {shown(role)}.")
    if role.strip().lower() not in ROLES:
        raise RowError("unknown-role", f"{where} has the role {role!r}. Known: {', '.join(ROLES)}.")
    kept = {key: item[key] for key in _KEPT if item.get(key) is not None}
    if content is None and "tool_calls" in kept:
        content = ""
    if not isinstance(content, str) and not _is_parts(content):
        raise RowError("wrong-type", f"{where} must have a content (or value) that is text, found {shown(content)}.")
    return {"role": ROLES[role.strip().lower()], "content": content, **kept}


def _is_parts(content: Any) -> bool:
    """Whether content is the list of typed parts in which chat messages carry pictures."""
    return isinstance(content, list) and bool(content) and all(isinstance(part, Mapping) and "type" in part for part in content)


def user(text: str) -> Message:
    """A user's message."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """An assistant's message."""
    return {"role": "assistant", "content": text}


def shared_messages(chosen: list[Message], rejected: list[Message]) -> tuple[list[Message], list[Message], list[Message]]:
    """Prompt, chosen and rejected of two dialogues with a common beginning: the prompt is all but the diverging tails."""
    if chosen == rejected:
        raise RowError("identical", "The two dialogues are the same.")
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    if shared == 0:
        raise RowError("prompt-missing", "The two dialogues share no first message, so they hold no common prompt.")
    return chosen[:shared], chosen[shared:], rejected[shared:]


def shared_text(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Prompt, chosen and rejected of two texts with a common beginning, cut before the last white space that they share.

    The white space goes with the responses: most tokenizers join a space to the word after it, so no token straddles
    the boundary. A word that the two only begin alike is left whole.
    """
    if chosen == rejected:
        raise RowError("identical", "The two texts are the same.")
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    # The white space may follow directly where both texts go on with one, though not the same.
    cut = shared if all(len(text) > shared and text[shared].isspace() for text in (chosen, rejected)) else shared - 1
    while cut > 0 and not chosen[cut].isspace():
        cut -= 1
    prompt = chosen[: max(cut, 0)].rstrip()
    if not prompt:
        raise RowError("prompt-missing", "The two texts share no first word, so they hold no common prompt.")
    return prompt, chosen[len(prompt) :], rejected[len(prompt) :]


def split_dialogue(text: str, column: str) -> tuple[str, str]:
    r"""A transcript of `\n\nHuman:` and `\n\nAssistant:` turns, in two after its last `\n\nAssistant:`."""
    at = text.rfind(ASSISTANT_MARK)
    if at < 0:
        raise RowError("wrong-type", f"{column!r} holds no '\\n\\nAssistant:' turn: {shown(text)}.")
    end = at + len(ASSISTANT_MARK)
    return text[:end], text[end:]


def turns(prompt: str) -> list[Message]:
    r"""The messages of a transcript that ends in an open `\n\nAssistant:` turn, which makes no message.

    Turns of one speaker in a row become one message: chat templates want the speakers to alternate.
    """
    pieces = _TURN.split(prompt)
    if pieces[0].strip():
        raise RowError("wrong-type", f"The dialogue must begin with '\\n\\nHuman:', found {shown(pieces[0])}.")
    messages: list[Message] = []
    for speaker, said in zip(pieces[1:-2:2], pieces[2:-2:2], strict=True):
        made = user(said.strip()) if speaker == "Human" else assistant(said.strip())
        if messages and messages[-1]["role"] == made["role"]:
            made = {**made, "content": f"{messages.pop()['content']}\n\n{made['content']}"}
        messages.append(made)
    if not messages:
        raise RowError("prompt-missing", "The dialogue has no turn before its last '\\n\\nAssistant:'.")
    return messages


def texts_in(content: Content) -> list[str]:
    """Every string inside a prompt or response (message contents and the text parts of messages)."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, Sequence):
        return []
    found: list[str] = []
    for message in cast("Sequence[Message]", content):
        inner = message.get("content", "")
        found += [inner] if isinstance(inner, str) else [str(part.get("text", "")) for part in cast("list[Message]", inner)]
    return found
