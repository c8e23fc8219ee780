"""Who says which of two answers is better: a model behind an endpoint, or a local one."""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

from annotated_types import Ge, Gt, Le
from pydantic import BeforeValidator, Discriminator, Tag, TypeAdapter, ValidationError

from dpoframe.errors import DpoframeError, MachineError, UnscoredError, suggestion
from dpoframe.evaluator import Available, Refused
from dpoframe.types import Request, as_text

if TYPE_CHECKING:
    from dpoframe.harness.backends.endpoint import Endpoint
    from dpoframe.harness.subject import Subject
    from dpoframe.modality import Modality

_LOADED: dict[str, Subject] = {}
_LOADING = threading.Lock()


@dataclass(frozen=True)
class Judge(ABC):
    """A model that is asked in words and answers in words, always with its likeliest ones (temperature 0)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    @abstractmethod
    def probe(self) -> Available | Refused:
        """Whether it can be asked here; cheap, no weights are loaded and nothing is asked."""

    @abstractmethod
    def ask(self, questions: Sequence[str]) -> list[str]:
        """One reply a question, in order.

        Raises:
            UnscoredError: it cannot be asked, or refuses a question.
        """

    def at_once(self) -> int:
        """How many threads may ask at once."""
        return 1

    def weights(self) -> str:
        """Digest of what decides its replies and stands in none of its fields; empty where nobody here knows."""
        return ""


@dataclass(frozen=True)
class EndpointJudge(Judge):
    """A model behind an endpoint that speaks OpenAI's protocol, hosted or one's own (vLLM, llama.cpp, Ollama).

    Attributes:
        url: Address up to and with the version, such as `http://localhost:8000/v1`.
        model: The model's name there. Name a dated version where there is one.
        api_key_env: Name of the environment variable that holds the key; none is sent where it is empty.
        max_tokens: Most tokens of a reply. A model that thinks aloud first needs more than the one letter.
        extra: Further keys of every request, as the endpoint knows them; null takes one away, such as `temperature` where a
            model refuses it.
        concurrency: Questions under way at a time.
        timeout: Seconds for one reply.
        retries: Further tries where the endpoint is busy or silent, each after a longer pause.
    """

    url: str
    model: str
    api_key_env: str = ""
    max_tokens: Annotated[int, Ge(1)] = 512
    extra: Mapping[str, Any] = field(default_factory=dict)
    # What changes no reply stays out of the repr, and so out of digests.
    concurrency: Annotated[int, Ge(1), Le(256)] = field(default=8, repr=False)
    timeout: Annotated[float, Gt(0)] = field(default=60.0, repr=False)
    retries: Annotated[int, Ge(0), Le(20)] = field(default=4, repr=False)

    def __post_init__(self) -> None:
        """ValueError where the address is none, or a key stands where it would be written into files."""
        self._endpoint()

    def probe(self) -> Available | Refused:
        """Whether the key is at hand, and somebody listens there."""
        client = self._endpoint().client
        if self.api_key_env and not client.key:
            return Refused(f"the environment variable {self.api_key_env} holds no key", f"Set it: export {self.api_key_env}=...")
        if reason := client.unreachable():
            return Refused(f"its judge is not there: {reason}", "Start the server, or give another judge.url.")
        return Available()

    def ask(self, questions: Sequence[str]) -> list[str]:
        """One after the other: it is the samples that are asked about side by side."""
        return [self._reply(question) for question in questions]

    def at_once(self) -> int:
        """As many as may be under way."""
        return self.concurrency

    def _endpoint(self) -> Endpoint:
        from dpoframe.harness.backends.endpoint import Endpoint

        options: dict[str, Any] = {"timeout": self.timeout, "retries": self.retries, "extra": self.extra}
        return Endpoint(self.url, self.model, key_env=self.api_key_env, **options)

    def _reply(self, question: str) -> str:
        messages = [{"role": "user", "content": question}]
        body = {"model": self.model, "messages": messages, "temperature": 0.0, "max_tokens": self.max_tokens, **self.extra}
        try:
            found = self._endpoint().client.post("chat/completions", {key: one for key, one in body.items() if one is not None})
            return str(found["choices"][0]["message"].get("content") or "")
        except MachineError as error:
            raise UnscoredError(f"the judge could not be asked: {error}", again=True) from error
        except DpoframeError as error:
            raise UnscoredError(f"the judge refused the question: {error}") from error
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise UnscoredError(f"the judge's reply cannot be read: {found!r:.200}", again=True) from error


@dataclass(frozen=True)
class LocalJudge(Judge):
    """A model of this machine, through any modality that takes chat messages; loaded once a process, when first asked.

    In a suite the modality's fields stand beside its name: `judge: {modality: text, model: Qwen/Qwen2.5-7B-Instruct}`.

    Attributes:
        modality: Name of the modality.
        settings: The modality's fields.
        max_tokens: Most tokens of a reply.
    """

    modality: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: Annotated[int, Ge(1)] = 64

    def probe(self) -> Available | Refused:
        """Whether the modality is installed and takes these settings."""
        try:
            self._modality()
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False))
            return Refused(f"its judge cannot be made: {wrong}", "Mend the section `judge` of the suite.")
        except DpoframeError as error:
            return Refused(f"its judge cannot be made: {error}", "Mend the section `judge` of the suite.")
        return Available()

    def ask(self, questions: Sequence[str]) -> list[str]:
        """All in one batch."""
        settings = {"max_new_tokens": self.max_tokens, "temperature": 0.0}
        requests = [
            Request(str(number), [{"role": "user", "content": question}], 0, settings) for number, question in enumerate(questions)
        ]
        replies = {one.id: as_text(one.response) for one in self._subject().answers(requests)}
        return [replies[one.id] for one in requests]

    def weights(self) -> str:
        """Of the local files and folders that its settings name, and of the modality's own file where it stands in one.

        A name on the hub counts as it is given: give a `revision` with it.
        """
        from dpoframe.builtin.weights import digest_of
        from dpoframe.plugins.files import is_file_target, split_target

        own = [split_target(self.modality)[0]] if is_file_target(self.modality) else []
        return digest_of([self.settings, own])

    def _modality(self) -> Modality:
        from dpoframe.plugins import host

        made: Modality = TypeAdapter(host().get("modality", self.modality)).validate_python(dict(self.settings))
        return made

    def _subject(self) -> Subject:
        key = json.dumps([self.modality, dict(self.settings), self.weights()], sort_keys=True, default=str)
        with _LOADING:
            if key not in _LOADED:
                try:
                    _LOADED[key] = _loaded(self._modality())
                except (DpoframeError, OSError) as error:
                    raise UnscoredError(f"the judge could not be loaded: {error}", again=True) from error
            return _LOADED[key]


def judge_of(given: Any) -> Any:
    """A suite's `judge` section with the modality's own keys put under `settings`.

    Raises:
        ValueError: it names neither kind of judge, or has a key that an endpoint's judge lacks.
    """
    if not isinstance(given, Mapping):
        return given
    own = {one.name for one in fields(LocalJudge if "modality" in given else EndpointJudge)}
    others = {name: value for name, value in given.items() if name not in own}
    if "modality" in given:
        kept = {name: value for name, value in given.items() if name in own}
        return {**kept, "settings": {**dict(kept.get("settings", {})), **others}}
    if "url" not in given:
        raise ValueError("give `url` and `model` of an endpoint, or `modality` and that modality's fields")
    if others:
        near = " ".join(filter(None, (suggestion(name, own) for name in others)))
        raise ValueError(f"{', '.join(others)} is no key of a judge. {near or 'Keys: ' + ', '.join(sorted(own))}")
    return given


def _kind(given: Any) -> str:
    local = isinstance(given, LocalJudge) or (isinstance(given, Mapping) and "modality" in given)
    return "local" if local else "endpoint"


AnyJudge: TypeAlias = Annotated[
    Annotated[EndpointJudge, Tag("endpoint")] | Annotated[LocalJudge, Tag("local")],
    Discriminator(_kind),
    BeforeValidator(judge_of),
]
"""A judge as a suite writes it."""


def _loaded(modality: Modality) -> Subject:
    import torch

    from dpoframe.harness.subject import Subject

    model = modality.build()
    if torch.accelerator.is_available():
        model = model.to(torch.accelerator.current_accelerator())
    return Subject("judge", modality, model)
