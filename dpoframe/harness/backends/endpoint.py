"""Answers from an endpoint that speaks OpenAI's protocol."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from annotated_types import Ge, Gt, Le

from dpoframe.config.secrets import is_secret, masked
from dpoframe.errors import ConfigError, MachineError
from dpoframe.evaluator import Available, Refused
from dpoframe.harness.backends.asking import answered
from dpoframe.harness.backends.base import Backend
from dpoframe.harness.backends.client import Client
from dpoframe.harness.backends.settings import translated
from dpoframe.types import Content, Media, Request, Sample, as_text

if TYPE_CHECKING:
    from dpoframe.harness.subject import Subject
    from dpoframe.modality import Modality

_LARGEST_SEED = 2**31


@dataclass(frozen=True)
class Endpoint(Backend):
    """Asks an endpoint. The model in memory then only scores; the answers' keys carry address and model name, not weights.

    Attributes:
        url: Address up to and with the version, such as `http://localhost:8000/v1`.
        model: The model's name there.
        api: `chat` (chat/completions; a string is one user turn) or `completions` (messages become lines of text).
        key_env: Name of the environment variable that holds the key; none is sent where it is empty.
        concurrency: Requests under way at a time.
        timeout: Seconds for one answer.
        retries: Further tries where the endpoint is busy or silent.
        extra: Further keys of every request, as the endpoint knows them.
    """

    url: str
    model: str
    api: Literal["chat", "completions"] = "chat"
    key_env: str = ""
    concurrency: Annotated[int, Ge(1), Le(256)] = 8
    timeout: Annotated[float, Gt(0)] = 120.0
    retries: Annotated[int, Ge(0), Le(20)] = 4
    extra: Mapping[str, Any] = field(default_factory=dict)

    kind: ClassVar[str] = "endpoint"

    def __post_init__(self) -> None:
        """ValueError where the address is none, or a key stands where it would be written into files."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url is {self.url!r}; give an address such as http://localhost:8000/v1.")
        if parts.username or parts.password:
            raise ValueError("url holds a name or password. Put the key into an environment variable and name it in key_env.")
        if is_secret("", self.key_env) or not (self.key_env or "_").isidentifier():
            raise ValueError("key_env is the name of an environment variable, such as OPENAI_API_KEY, never the key itself.")
        if kept := sorted(key for key, value in self.extra.items() if is_secret(key, value)):
            raise ValueError(f"extra holds what looks like a key ({', '.join(kept)}). Name an environment variable in key_env.")

    @property
    def client(self) -> Client:
        """What posts."""
        return Client(self.url, self.key_env, self.timeout, self.retries)

    def probe(self) -> Available | Refused:
        """Whether somebody listens there, and the key is at hand."""
        if self.key_env and not self.client.key:
            return Refused(f"the environment variable {self.key_env} holds no key", f"Set it: export {self.key_env}=...")
        if reason := self.client.unreachable():
            return Refused(reason, "Start the server, or give another backend.url.")
        return Available()

    def draws(self, modality: Modality, settings: Mapping[str, Any]) -> bool:
        """Whether there is a temperature, in the settings or in `extra`."""
        return bool({**translated(settings, "an endpoint"), **self.extra}["temperature"])

    def answers(self, subject: Subject, requests: Sequence[Request]) -> Iterator[Sample]:
        """One sample a request, as they come; what is not yet asked is dropped where one fails."""
        bodies = [self._body(request) for request in requests]
        for place, answer in answered(self._answer, bodies, self.concurrency):
            yield self._sample(requests[place], answer)

    def digest(self, subject: Subject) -> str:
        """Of address, model, protocol and further keys: nobody here knows the weights behind them."""
        plain = [self.url.rstrip("/"), self.model, self.api, dict(self.extra)]
        return hashlib.blake2b(json.dumps(["endpoint", plain], sort_keys=True).encode(), digest_size=16).hexdigest()

    def described(self) -> dict[str, Any]:
        """Settings without those that change no answer."""
        kept = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        for name in ("concurrency", "timeout", "retries"):
            del kept[name]
        return {"kind": self.kind, **masked({**kept, "extra": dict(self.extra)})}

    def _answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return self.client.post("chat/completions" if self.api == "chat" else "completions", body)

    def _body(self, request: Request) -> dict[str, Any]:
        asked = {"messages": _messages(request.prompt)} if self.api == "chat" else {"prompt": _text(request.prompt)}
        return {
            "model": self.model,
            **asked,
            **translated(request.settings, "an endpoint"),
            "seed": request.seed % _LARGEST_SEED,
            **self.extra,
        }

    def _sample(self, request: Request, answer: Mapping[str, Any]) -> Sample:
        try:
            choice = answer["choices"][0]
            text = choice["message"]["content"] if self.api == "chat" else choice["text"]
            finished = choice.get("finish_reason") != "length"
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise MachineError(f"The endpoint {self.client.shown} gave no answer that can be read: {answer!r:.200}") from error
        tokens = (answer.get("usage") or {}).get("completion_tokens")
        detail = {"length": float(tokens)} if isinstance(tokens, int) else {}
        text = str(text or "")
        return Sample(request.id, request.prompt, text.strip() if self.api == "chat" else text, finished, detail)


def _messages(prompt: Content) -> list[dict[str, Any]]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    if isinstance(prompt, Media):
        raise ConfigError("An endpoint is asked in words; this suite's prompts hold media.")
    for message in prompt:
        parts = message.get("content")
        # An address in a part would be fetched by the endpoint, from inside its own network.
        if others := sorted(
            {str(part.get("type")) for part in parts if part.get("type") != "text"} if isinstance(parts, list) else ()
        ):
            raise ConfigError(f"An endpoint is asked in words; this suite's prompts hold parts of the type {', '.join(others)}.")
    return [dict(message) for message in prompt]


def _text(prompt: Content) -> str:
    return prompt if isinstance(prompt, str) else f"{as_text(prompt)}\nassistant:"
