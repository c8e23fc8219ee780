"""What a suite puts before its prompts: a system prompt and worked examples, as chat turns or as text."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from dpoframe.rng import seed_of
from dpoframe.types import Content, Media, Message, as_text, content_digest

Form: TypeAlias = Literal["auto", "chat", "text"]

TEMPLATE = "{prompt}\n{response}"
SEPARATOR = "\n\n"


@dataclass(frozen=True)
class Example:
    """A prompt with the answer that it should get."""

    prompt: Content
    response: str


@dataclass(frozen=True)
class Framing:
    """Turns a suite's prompt into what the model is asked.

    Attributes:
        system: The system prompt; a prompt that brings a system message keeps its own.
        form: `chat` makes a string a user's turn; `text` writes one string; `auto` leaves messages messages and strings
            strings.
        examples: Worked examples to choose from.
        count: How many go before each prompt.
        seed: Draws the examples anew for every prompt; None takes the first `count` for all.
        template: How an example reads in a text: `{prompt}` and `{response}` stand for its parts. The prompt itself is
            written up to where its response begins.
        separator: What stands between the examples of a text.
    """

    system: str = ""
    form: Form = "auto"
    examples: tuple[Example, ...] = ()
    count: int = 0
    seed: int | None = None
    template: str = TEMPLATE
    separator: str = SEPARATOR

    def of(self, prompt: Content, name: str) -> Content:
        """The finished prompt; `name` is the prompt's id, which together with `seed` decides the examples."""
        shots = self.chosen(prompt, name)
        if isinstance(prompt, Media) or not (self.system or shots or self.form != "auto"):
            return prompt
        return self._chat(prompt, shots) if self._as_chat(prompt) else self._text(prompt, shots)

    def chosen(self, prompt: Content, name: str) -> list[Example]:
        """The examples for one prompt, never one that asks the same."""
        asked = content_digest(_turns(prompt))
        known = [one for one in self.examples if content_digest(_turns(one.prompt)) != asked] if self.count else []
        if self.seed is None:
            return known[: self.count]
        return random.Random(seed_of(self.seed, "few_shot", name)).sample(known, min(self.count, len(known)))

    def digest(self) -> str:
        """Digest of everything that decides the finished prompts."""
        plain: dict[str, Any] = {**asdict(self), "examples": [[one.prompt, one.response] for one in self.examples]}
        return content_digest(*[repr(sorted(plain.items()))]) if self != Framing() else ""

    def _as_chat(self, prompt: Content) -> bool:
        return self.form == "chat" or (self.form == "auto" and not isinstance(prompt, str))

    def _chat(self, prompt: Content, shots: Sequence[Example]) -> list[Message]:
        """System message, the examples as turns, the prompt's own messages."""
        own = _turns(prompt)
        lead = [dict(own.pop(0))] if own and own[0].get("role") == "system" else []
        if not lead and self.system:
            lead = [{"role": "system", "content": self.system}]
        turns: list[Message] = [*lead]
        for shot in shots:
            turns += [*_turns(shot.prompt), {"role": "assistant", "content": shot.response}]
        return [*turns, *own]

    def _text(self, prompt: Content, shots: Sequence[Example]) -> str:
        """System prompt, the examples by the template, and the template up to where the response begins."""
        head = self.template.partition("{response}")[0] if shots else "{prompt}"
        parts = [self.system] if self.system else []
        parts += [self._written(self.template, shot) for shot in shots]
        return self.separator.join([*parts, head.replace("{prompt}", as_text(prompt))])

    @staticmethod
    def _written(template: str, shot: Example) -> str:
        # One pass over the template: a prompt that holds the word "{response}" stays as it is.
        before, _, after = template.partition("{response}")
        return before.replace("{prompt}", as_text(shot.prompt)) + shot.response + after.replace("{prompt}", as_text(shot.prompt))


def _turns(prompt: Content) -> list[Message]:
    if isinstance(prompt, str | Media):
        return [{"role": "user", "content": as_text(prompt)}]
    return [dict(message) for message in prompt]
