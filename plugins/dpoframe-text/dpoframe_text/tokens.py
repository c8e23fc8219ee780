"""Where a prompt ends and its response begins, in tokens.

Prompt and response are tokenised apart, so text on one side of the border never moves a token on the other. The prompt
is cut by a rule that does not know the response: both responses of a pair continue the same tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from dpoframe import Content, DataError, Example
from dpoframe_text.templates import ChatMode, Conversation, answer_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids: TypeAlias = "tuple[int, ...]"
PromptCut: TypeAlias = Literal["keep_end", "keep_start"]

_ANCHORS = ("\n", ".", "a")
_KEPT = 4096


@dataclass(frozen=True)
class Encoded:
    """An example in tokens: `response` holds the end-of-text token where the answer ends inside the limit."""

    prompt: Ids
    response: Ids
    truncated: bool = False


@dataclass(frozen=True)
class TextFormat:
    """Everything besides the tokenizer that decides which tokens an example becomes.

    Attributes:
        chat: When the chat template is used, see `Conversation`.
        chat_template: Jinja source in place of the tokenizer's template.
        system: System prompt for prompts that bring none.
        append_eos: Whether the end of an answer is a token of it.
        max_length: Most tokens of prompt and response together.
        max_prompt_length: Most tokens of the prompt; three quarters of `max_length` where None.
        truncate_prompt: Which end of a prompt that is too long stays.
    """

    chat: ChatMode = "auto"
    chat_template: str | None = None
    system: str | None = None
    append_eos: bool = True
    max_length: int = 1024
    max_prompt_length: int | None = None
    truncate_prompt: PromptCut = "keep_end"


class Encoder:
    """Turns examples into tokens. One a process and text format: it keeps what it tokenised last.

    Args:
        tokenizer: Any tokenizer of transformers.
        form: The rules.
        context: The model's longest sequence in tokens, where it has one; `max_length` is never above it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, form: TextFormat, context: int | None = None) -> None:
        self.tokenizer = tokenizer
        self.form = form
        self.limit = min(form.max_length, context or form.max_length)
        self.prompt_limit = min(form.max_prompt_length or max(1, self.limit * 3 // 4), self.limit - 1)
        self.conversation = Conversation(tokenizer, form.chat, form.chat_template, form.system)
        self._prompts: dict[Hashable, tuple[Ids, bool]] = {}
        self._responses: dict[Hashable, Ids] = {}

    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        """Tokens of each example, cut to the limits, in order."""
        prompts = self._all_prompts([(example.prompt, example.response) for example in examples])
        responses = self._all_responses(examples)
        return [self._cut(*prompt, response) for prompt, response in zip(prompts, responses, strict=True)]

    def prompts(self, prompts: Sequence[Content]) -> list[Ids]:
        """Tokens of prompts that have no response yet, cut to the prompt's limit, in order."""
        return [ids for ids, _ in self._all_prompts([(prompt, "") for prompt in prompts])]

    def _all_prompts(self, pairs: Sequence[tuple[Content, Content]]) -> list[tuple[Ids, bool]]:
        keys = [(key_of(prompt), self.conversation.uses_template(prompt, response)) for prompt, response in pairs]
        wanted = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in self._prompts}
        texts = [self.conversation.prompt(*pair) for pair in wanted.values()]
        for key, ids in zip(wanted, self._tokenise(texts), strict=True):
            self._prompts[key] = self._cut_prompt(self._begun(ids, templated=key[1]), templated=key[1])
        found = [self._prompts[key] for key in keys]
        _forget(self._prompts)
        return found

    def decode(self, prompt: Ids, response: Sequence[int]) -> str:
        """The text of a generated response, as it stands after its prompt (a leading space is kept)."""
        end = list(prompt[-8:])
        head = self._text(end)
        whole = self._text([*end, *response])
        return whole[len(head) :] if whole.startswith(head) else self._text(list(response))

    @cached_property
    def end_ids(self) -> Ids:
        """Tokens that end an answer: the tokenizer's end-of-text, and what the chat template closes a turn with."""
        mark = self._split_end(self.conversation.end_of_turn(), templated=True)[1]
        return tuple(sorted({token for token in (mark, self.tokenizer.eos_token_id) if token is not None}))

    @cached_property
    def digest(self) -> str:
        """Hex digest of the tokenizer, the chat template and the rules: equal digests give equal tokens."""
        rules = {**asdict(self.form), "limit": self.limit, "prompt_limit": self.prompt_limit}
        rules["chat_template"] = self.form.chat_template or self.tokenizer.chat_template
        text = json.dumps(rules, sort_keys=True) + tokenizer_state(self.tokenizer)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _all_responses(self, examples: Sequence[Example]) -> list[Ids]:
        keys = [self._response_key(example) for example in examples]
        wanted = {key: example for key, example in zip(keys, examples, strict=True) if key not in self._responses}
        parts = [self._response_parts(example) for example in wanted.values()]
        bodies = self._continued([body for body, _ in parts])
        for key, ids, (_, end) in zip(wanted, bodies, parts, strict=True):
            self._responses[key] = ids if end is None else (*ids, end)
        found = [self._responses[key] for key in keys]
        _forget(self._responses)
        return found

    def _response_key(self, example: Example) -> Hashable:
        # A template may write an answer differently after different prompts; plain text it is the same everywhere.
        templated = self.conversation.uses_template(example.prompt, example.response)
        place = key_of(example.prompt) if templated else isinstance(example.prompt, str)
        return (key_of(example.response), example.finished, place)

    def _response_parts(self, example: Example) -> tuple[str, int | None]:
        """The answer's text without its end mark, and the token that ends it (None: nothing does)."""
        templated = self.conversation.uses_template(example.prompt, example.response)
        answer, _ = self._split_end(answer_text(example.response), templated=False)
        body, end = self._split_end(self.conversation.response(example.prompt, answer), templated)
        if end is None:
            end = self.tokenizer.eos_token_id
        return body, end if self.form.append_eos and example.finished else None

    def _split_end(self, text: str, templated: bool) -> tuple[str, int | None]:
        """Splits a closing special token from `text`, so that it is there once however the text was written."""
        bare = text.rstrip() if templated else text
        marks = self._specials if templated else [self.tokenizer.eos_token]
        for mark in marks:
            if mark and bare.endswith(mark):
                token: Any = self.tokenizer.convert_tokens_to_ids(mark)
                return bare[: -len(mark)], int(token)
        return text, None

    @cached_property
    def _specials(self) -> list[str]:
        """Every special token's text, longest first."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {}).values()
        names = {token.content for token in added if token.special} | set(self.tokenizer.all_special_tokens)
        return sorted(names, key=lambda name: (-len(name), name))

    def _begun(self, ids: Ids, templated: bool) -> Ids:
        """The prompt with what the tokenizer puts in front. A template writes its own beginning."""
        lead = () if templated else self._lead
        if lead and ids[: len(lead)] != lead:
            ids = lead + ids[1:] if ids[:1] == lead[-1:] else lead + ids
        return ids or self._start

    @cached_property
    def _lead(self) -> Ids:
        """What the tokenizer puts before a text by itself: as a rule the beginning-of-text token, or nothing."""
        bare, full = self._tokenise(["a"])[0], tuple(self.tokenizer("a")["input_ids"])
        at = next((at for at in range(len(full)) if full[at : at + len(bare)] == bare), 0)
        return full[:at]

    @cached_property
    def _start(self) -> Ids:
        """One token to stand before a response that follows an empty prompt: something must predict its first token."""
        known = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id)
        if token := [token for token in known if token is not None]:
            return (token[0],)
        raise DataError("A prompt is empty and the tokenizer has no beginning-of-text token to begin with.")

    def _cut_prompt(self, ids: Ids, templated: bool) -> tuple[Ids, bool]:
        """The prompt within its limit, and whether anything was cut. What is no part of the text itself stays."""
        limit = self.prompt_limit
        if len(ids) <= limit:
            return ids, False
        if self.form.truncate_prompt == "keep_start":
            tail = self._opening if templated and len(self._opening) < limit else ()
            return ids[: limit - len(tail)] + tail, True
        bos = (self.tokenizer.bos_token_id,)
        lead = self._lead if self._lead and ids[: len(self._lead)] == self._lead else ids[:1] * (ids[:1] == bos)
        lead = lead if len(lead) < limit else ()
        return lead + ids[len(ids) - limit + len(lead) :], True

    @cached_property
    def _opening(self) -> Ids:
        """The tokens by which the template opens the assistant's turn."""
        return self._tokenise([self.conversation.opening()])[0]

    def _cut(self, prompt: Ids, cut: bool, response: Ids) -> Encoded:
        room = self.limit - len(prompt)
        return Encoded(prompt, response[:room], truncated=cut or len(response) > room)

    def _continued(self, texts: Sequence[str]) -> list[Ids]:
        """Tokens of texts that go on after others: without the space that some tokenizers put before a text."""
        if not self._prepends:
            return self._tokenise(texts)
        return [self._after_anchor(text) for text in texts]

    def _after_anchor(self, text: str) -> Ids:
        for anchor in _ANCHORS:
            head, whole = self._tokenise([anchor, anchor + text])
            if whole[: len(head)] == head:
                return whole[len(head) :]
        return self._tokenise([text])[0]

    @cached_property
    def _prepends(self) -> bool:
        """Whether the tokenizer reads a text that stands alone otherwise than one that goes on."""
        return any(self._after_anchor(probe) != self._tokenise([probe])[0] for probe in ("a", " a"))

    def _tokenise(self, texts: Sequence[str]) -> list[Ids]:
        if not texts:
            return []
        ids = self.tokenizer(list(texts), add_special_tokens=False, verbose=False, return_attention_mask=False)["input_ids"]
        return [tuple(row) for row in ids]

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def key_of(content: Content) -> Hashable:
    """A key that is equal for equal contents."""
    return content if isinstance(content, str) else ("messages", json.dumps(content, sort_keys=True, default=_plain))


def _plain(value: Any) -> Any:
    return dict(value) if hasattr(value, "keys") else str(value)


def _forget(kept: dict[Hashable, Any]) -> None:
    """Drops the oldest entries above the limit."""
    for key in list(kept)[: max(0, len(kept) - _KEPT)]:
        del kept[key]


def tokenizer_state(tokenizer: Any) -> str:
    """All that decides a tokenizer's output, as text. Padding and truncation switches are left out: unused here."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        parts = [type(tokenizer).__name__, tokenizer.get_vocab(), tokenizer.special_tokens_map]
        return json.dumps(parts, sort_keys=True, default=str)
    state = json.loads(backend.to_str())
    state.update(padding=None, truncation=None)
    return json.dumps([state, tokenizer.bos_token, tokenizer.eos_token], sort_keys=True)


def partners(names: Iterable[Hashable]) -> list[int | None]:
    """For each example the index of the other of its pair: the one that has its name.

    A step may hold a pair more than once. The core lays all chosen before all rejected, so that of 2m examples of one name the
    first is the partner of number m + 1, and so on. One of an odd number has none.
    """
    places: dict[Hashable, list[int]] = {}
    for index, name in enumerate(names):
        places.setdefault(name, []).append(index)
    found: dict[int, int | None] = {}
    for own in places.values():
        half = len(own) // 2
        turned = [*own[half:], *own[:half]] if len(own) % 2 == 0 else [None] * len(own)
        found |= zip(own, turned, strict=True)
    return [found[index] for index in range(len(found))]
