"""Judges behind an endpoint, which is a stand-in on this machine, and local ones: what is asked, and what becomes of failures."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from dpoframe import Available, Refused, Request, Sample, UnscoredError, as_text, hookimpl
from dpoframe.builtin import judge as judges
from dpoframe.builtin.judge import AnyJudge, EndpointJudge, Judge, LocalJudge
from dpoframe.plugins import PluginHost
from dpoframe.testing.toy import ToyModality

ADAPTER: TypeAdapter[Judge] = TypeAdapter(AnyJudge)


def test_what_is_sent(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question as one user turn at temperature 0, the key from the environment, further keys, and none that are null."""
    monkeypatch.setenv("JUDGE_KEY", "secret-key-123")
    extra = {"top_p": 1.0, "max_tokens": None, "max_completion_tokens": 900}
    assert EndpointJudge(endpoint.url, "m", "JUDGE_KEY", extra=extra).ask(["which?"]) == ["A"]
    assert endpoint.bodies == [
        {
            "path": "/v1/chat/completions",
            "model": "m",
            "messages": [{"role": "user", "content": "which?"}],
            "temperature": 0.0,
            "top_p": 1.0,
            "max_completion_tokens": 900,
        }
    ]
    assert endpoint.headers[0]["Authorization"] == "Bearer secret-key-123"


def test_replies_come_in_order(endpoint: Any) -> None:
    """One reply a question; a reply without content is empty text."""
    endpoint.reply = lambda question: None if question == "none" else question.upper()
    assert EndpointJudge(endpoint.url, "m").ask(["a", "none", "b"]) == ["A", "", "B"]


def test_retries(endpoint: Any) -> None:
    """A busy or failing endpoint, and one that answers with a web page, is asked again after a pause."""
    endpoint.statuses = [(429, "{}", {"Retry-After": "0.01"}), (503, "later", {}), (200, "<html>", {})]
    assert EndpointJudge(endpoint.url, "m", retries=3).ask(["which?"]) == ["A"]
    assert len(endpoint.bodies) == 4


def test_down(endpoint: Any) -> None:
    """An endpoint that stays down is no fault of the sample's, and what it said is told."""
    endpoint.statuses = [(500, '{"error": {"message": "broken"}}', {})] * 2
    with pytest.raises(UnscoredError, match=r"the judge could not be asked.*broken") as caught:
        EndpointJudge(endpoint.url, "m", retries=1).ask(["which?"])
    assert caught.value.again


@pytest.mark.parametrize("status", [400, 404])
def test_refused_questions(endpoint: Any, status: int) -> None:
    """A question that the endpoint refuses, as too long, is the sample's own trouble: what was said, and no retries."""
    endpoint.statuses = [(status, '{"error": {"message": "too long"}}', {})]
    with pytest.raises(UnscoredError, match=r"the judge refused the question.*too long") as caught:
        EndpointJudge(endpoint.url, "m").ask(["which?"])
    assert not caught.value.again
    assert len(endpoint.bodies) == 1


def test_keys_are_never_told(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the judge's text nor a reason holds the key, though the endpoint repeats it."""
    monkeypatch.setenv("JUDGE_KEY", "secret-key-123")
    endpoint.statuses = [(401, '{"error": {"message": "wrong key secret-key-123"}}', {})]
    judge = EndpointJudge(endpoint.url, "m", "JUDGE_KEY")
    with pytest.raises(UnscoredError) as caught:
        judge.ask(["which?"])
    assert caught.value.again
    assert "secret-key-123" not in f"{caught.value} {judge!r}"


@pytest.mark.parametrize("content", ['{"choices": []}', '{"choices": [{"message": null}]}', "{}", '{"choices": [{}]}'])
def test_replies_that_cannot_be_read(endpoint: Any, content: str) -> None:
    """An answer that is JSON, but no chat completion, is no fault of the sample's."""
    endpoint.statuses = [(200, content, {})]
    with pytest.raises(UnscoredError, match="the judge's reply cannot be read") as caught:
        EndpointJudge(endpoint.url, "m").ask(["which?"])
    assert caught.value.again


def test_a_judge_that_takes_too_long(endpoint: Any) -> None:
    """A reply that does not come within `timeout` is a failure of the endpoint."""
    endpoint.reply = lambda question: time.sleep(1.5)
    with pytest.raises(UnscoredError, match="could not be asked"):
        EndpointJudge(endpoint.url, "m", timeout=0.3, retries=0).ask(["which?"])


def test_what_changes_no_reply_is_in_no_digest() -> None:
    """Patience and speed do not show in the repr, so that changing them leaves results comparable; the model does."""
    plain, patient = (EndpointJudge("http://localhost/v1", "m", retries=n, concurrency=n + 1, timeout=9.0 + n) for n in (0, 9))
    assert repr(plain) == repr(patient)
    assert repr(plain) != repr(EndpointJudge("http://localhost/v1", "other"))


def test_where_the_judge_is_not(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key and an endpoint that nobody serves are refused before any sample is made, with the fix."""
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    found = EndpointJudge(endpoint.url, "m", "JUDGE_KEY").probe()
    assert found == Refused("the environment variable JUDGE_KEY holds no key", "Set it: export JUDGE_KEY=...")
    assert isinstance(EndpointJudge(endpoint.url, "m").probe(), Available)
    gone = EndpointJudge("http://127.0.0.1:1/v1", "m").probe()
    assert isinstance(gone, Refused)
    assert "judge.url" in gone.fix


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ({}, "give `url` and `model` of an endpoint, or `modality`"),
        ({"url": "localhost:8000", "model": "m"}, "give an address such as"),
        ({"url": "http://me:secret@localhost/v1", "model": "m"}, "url holds a name or password"),
        ({"url": "http://localhost/v1"}, "Field required"),
        ({"url": "http://localhost/v1", "model": "m", "timeuot": 1}, r"timeuot is no key of a judge. Did you mean 'timeout'\?"),
        ({"url": "http://localhost/v1", "model": "m", "api_key_env": "sk-0123456789abcdefghijkl"}, "never the key itself"),
        ("gpt", "dictionary or an instance"),
    ],
)
def test_judges_that_cannot_be(judge: Any, message: str) -> None:
    """A wrong section is refused when the suite is read, for one reason."""
    with pytest.raises(ValidationError, match=message) as caught:
        ADAPTER.validate_python(judge)
    assert caught.value.error_count() == 1


class Shouter(ToyModality):
    """Repeats the question in capitals; counts how often it is built and asked."""

    built: ClassVar[list[str]] = []
    asked: ClassVar[list[Request]] = []

    def build(self) -> nn.Module:
        """Notes it."""
        self.built.append("x")
        return super().build()

    def generate(self, model: nn.Module, requests: Sequence[Request]) -> Iterator[Sample]:
        """The last request first."""
        assert not torch.is_grad_enabled()
        assert not model.training
        self.asked.extend(requests)
        for request in reversed(requests):
            content: Any = request.prompt
            yield Sample(request.id, request.prompt, content[0]["content"].upper())


class Gone(ToyModality):
    """Has no weights."""

    def build(self) -> nn.Module:
        """Finds none."""
        raise OSError("no such folder")


class Toys:
    """A plugin with the judges above."""

    @hookimpl
    def dpoframe_modalities(self) -> Mapping[str, Any]:
        """By name."""
        return {"shouter": Shouter, "gone": Gone}


@pytest.fixture
def _local(isolated_host: PluginHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges of this process, none of them loaded."""
    isolated_host.register(Toys(), "toys")
    monkeypatch.setattr(judges, "_LOADED", {})
    Shouter.built.clear()
    Shouter.asked.clear()


@pytest.mark.usefixtures("_local")
def test_a_local_judge() -> None:
    """A judge through a modality is built once a process, when first asked, with the keys of its section."""
    judge = ADAPTER.validate_python({"modality": "shouter", "init_seed": 3, "max_tokens": 7})
    assert judge == LocalJudge("shouter", {"init_seed": 3}, 7)
    assert isinstance(judge.probe(), Available)
    assert Shouter.built == []
    assert judge.ask(["a", "b"]) == ["A", "B"]
    again = ADAPTER.validate_json(ADAPTER.dump_json(pickle.loads(pickle.dumps(judge))))
    assert again == judge
    assert again.ask(["c"]) == ["C"]
    assert Shouter.built == ["x"]
    assert dict(Shouter.asked[0].settings) == {"max_new_tokens": 7, "temperature": 0.0}
    assert as_text(Shouter.asked[0].prompt) == "user: a"


@pytest.mark.usefixtures("_local")
@pytest.mark.parametrize("judge", [{"modality": "shuoter"}, {"modality": "shouter", "colour": 1}])
def test_a_local_judge_that_cannot_be(judge: Mapping[str, Any]) -> None:
    """An unknown modality, or a field that it lacks, is refused before anything runs."""
    found = ADAPTER.validate_python(judge).probe()
    assert isinstance(found, Refused)
    assert "shouter" in found.reason or "colour" in found.reason
    assert "judge" in found.fix


@pytest.mark.usefixtures("_local")
def test_a_local_judge_without_weights() -> None:
    """A judge that cannot be loaded is no fault of the sample's."""
    with pytest.raises(UnscoredError, match="the judge could not be loaded: no such folder") as caught:
        LocalJudge("gone").ask(["which?"])
    assert caught.value.again
