"""Prompts and responses as the two texts a causal language model reads: chat templates, or plain text.

The text of a prompt never depends on the response that follows it, so a chosen and a rejected answer always continue
the same prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from dpoframe import Content, DataError, Media, as_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ChatMode: TypeAlias = Literal["auto", "always", "never"]
Messages: TypeAlias = "list[dict[str, Any]]"

_PROBE = "dpoframe"


@dataclass(frozen=True)
class Conversation:
    """How a model's chat template, or plain text, is put around prompts and responses.

    Attributes:
        tokenizer: Holds the chat template.
        mode: `auto` uses the template for chat messages and reads strings as plain text that goes on; `always` reads
            a string as one user turn; `never` writes messages as `role: content` lines.
        template: Jinja source that replaces the tokenizer's own template.
        system: Put before every prompt that does not bring a system message itself.
    """

    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    mode: ChatMode = "auto"
    template: str | None = None
    system: str | None = None

    def uses_template(self, prompt: Content, response: Content = "") -> bool:
        """Whether the pair is written by the chat template."""
        messages = not (isinstance(prompt, str) and isinstance(response, str))
        return self.mode == "always" or (self.mode == "auto" and messages)

    def prompt(self, prompt: Content, response: Content = "") -> str:
        """The text up to where the answer begins."""
        if not self.uses_template(prompt, response):
            return self._plain_prompt(prompt)
        messages = self._messages(prompt)
        if messages[-1]["role"] == "assistant":
            return self._render(messages, continue_final_message=True)
        return self._render(messages, add_generation_prompt=True)

    def response(self, prompt: Content, response: Content) -> str:
        """The text of the answer, with what the template writes after it (an end-of-turn mark, as a rule)."""
        answer = answer_text(response)
        if not self.uses_template(prompt, response):
            # A transcript's prompt ends in "assistant:".
            return answer if isinstance(prompt, str) else f" {answer}"
        head = self.prompt(prompt, response)
        whole = self._render(self._answered(self._messages(prompt), answer))
        return whole[len(head) :] if whole.startswith(head) else answer + self._after(prompt, answer, whole)

    def opening(self) -> str:
        """What the template writes to open the assistant's turn; empty where it writes nothing."""
        asked = [{"role": "user", "content": _PROBE}]
        closed, opened = self._render(asked), self._render(asked, add_generation_prompt=True)
        return opened[len(closed) :] if opened.startswith(closed) else ""

    def end_of_turn(self) -> str:
        """What the template writes after an answer; empty where there is no template or it writes nothing."""
        if self.template is None and not self.tokenizer.chat_template:
            return ""
        try:
            whole = self._render([{"role": "user", "content": "a"}, {"role": "assistant", "content": _PROBE}])
        except DataError:
            return ""
        return whole.rpartition(_PROBE)[2] if _PROBE in whole else ""

    def _after(self, prompt: Content, answer: str, whole: str) -> str:
        """What follows the answer in `whole`, for templates that rewrite the turn they were asked to begin.

        Such a template (one that drops or adds a thinking section, say) has no common text up to the answer. The
        prompt stays what generation starts from; the response is the answer and what the template writes after it.
        """
        _, found, after = whole.rpartition(answer.strip()) if answer.strip() else (whole, "", self.end_of_turn())
        if not found and answer.strip():
            raise DataError(
                f"The chat template does not write the answer it is given (prompt {as_text(prompt)[:60]!r}). "
                "Give the modality another chat_template, or chat: never."
            )
        return after

    def _plain_prompt(self, prompt: Content) -> str:
        lead = f"{self.system}\n\n" if self.system else ""
        if isinstance(prompt, str):
            return lead + prompt
        messages = checked(prompt)
        written = as_text(messages)
        return lead + (written if messages[-1]["role"] == "assistant" else f"{written}\nassistant:")

    def _messages(self, prompt: Content) -> Messages:
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else checked(prompt)
        if self.system and messages[0]["role"] != "system":
            return [{"role": "system", "content": self.system}, *messages]
        return messages

    @staticmethod
    def _answered(messages: Messages, answer: str) -> Messages:
        """The conversation with the answer in it; a prompt that ends in an assistant's words is continued by it."""
        last = messages[-1]
        if last["role"] == "assistant":
            return [*messages[:-1], {**last, "content": f"{last['content']}{answer}"}]
        return [*messages, {"role": "assistant", "content": answer}]

    def _render(self, messages: Messages, **switches: Any) -> str:
        if self.template is None and not self.tokenizer.chat_template:
            raise DataError(
                "The data holds chat messages, and the model has no chat template. Give the modality a chat_template, "
                "or set chat: never to write the messages as plain lines."
            )
        try:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False, chat_template=self.template, **switches))
        except Exception as error:  # a template's expressions raise whatever they like
            roles = ", ".join(str(message["role"]) for message in messages)
            raise DataError(f"The chat template refused a conversation with the roles {roles}: {error}") from error


def answer_text(response: Content) -> str:
    """The text of a response: a string, or assistant messages (joined by an empty line)."""
    if isinstance(response, str):
        return response
    messages = checked(response)
    if others := sorted({str(message["role"]) for message in messages} - {"assistant"}):
        raise DataError(f"A response holds messages of the role {', '.join(others)}; only the assistant's can be scored.")
    return "\n\n".join(str(message["content"]) for message in messages)


def checked(messages: Sequence[Mapping[str, Any]] | Media) -> Messages:
    """The messages as dicts. DataError where there is none, or one lacks `role` or `content`, or media stand there."""
    if isinstance(messages, Media):
        raise DataError("The modality text reads strings and chat messages, not media.")
    if not messages:
        raise DataError("A list of chat messages is empty; at least one message with `role` and `content` is needed.")
    for number, message in enumerate(messages, start=1):
        if missing := [key for key in ("role", "content") if message.get(key) is None]:
            raise DataError(f"Chat message {number} has no {' and no '.join(missing)}: {str(dict(message))[:80]}")
    return [dict(message) for message in messages]
