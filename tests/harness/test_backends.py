"""Backends: an endpoint that a server in this process stands in for, and vLLM that a module stands in for."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from dpoframe.errors import ConfigError, MachineError
from dpoframe.evaluator import Available, Refused
from dpoframe.harness import EvalFolder, Subject, load_suite, run_suite
from dpoframe.harness.backends import Endpoint, Native, Vllm
from dpoframe.harness.backends import client as client_module
from dpoframe.plugins import PluginHost
from dpoframe.types import Request

KEY = "sk-" + "x" * 30


@dataclass
class Server:
    """What came in, and what goes out: `answers` are statuses and bodies in order, the last one for all further requests."""

    url: str
    seen: list[dict[str, Any]] = field(default_factory=list)
    answers: list[tuple[int, Any]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)


def chat(text: str, reason: str = "stop") -> dict[str, Any]:
    """A chat completion."""
    return {"choices": [{"message": {"content": text}, "finish_reason": reason}], "usage": {"completion_tokens": 3}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on this machine; the client does not wait between its tries."""
    monkeypatch.setattr(client_module.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Server("")
    made.answers = [(200, chat(" An answer. "))]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.seen.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
            status, answer = made.answers.pop(0) if len(made.answers) > 1 else made.answers[0]
            content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in made.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            """Says nothing."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{httpd.server_address[1]}/v1"
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield made
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def asked(count: int = 1, prompt: Any = "ask", **settings: Any) -> list[Request]:
    """Some requests."""
    return [Request(f"p{number}#0", prompt, 2**40 + number, settings) for number in range(count)]


def test_chat(server: Server, subject: Subject) -> None:
    """Settings go out under the protocol's names, a string is a user's turn, the answer comes back as a sample."""
    backend = Endpoint(server.url, "m", extra={"top_k": 5})
    (sample,) = backend.answers(subject, asked(max_new_tokens=7, temperature=0.5, stop=("x",)))
    assert (sample.response, sample.finished, sample.detail) == ("An answer.", True, {"length": 3.0})
    (body,) = server.seen
    assert body.pop("seed") == 2**40 % 2**31
    assert body == {
        "path": "/v1/chat/completions", "key": None, "model": "m", "messages": [{"role": "user", "content": "ask"}],
        "max_tokens": 7, "temperature": 0.5, "stop": ["x"], "top_k": 5,
    }  # fmt: skip


def test_completions(server: Server, subject: Subject) -> None:
    """The other protocol sends text and keeps the answer's white space; a cut-off answer is not finished."""
    server.answers = [(200, {"choices": [{"text": " on", "finish_reason": "length"}]})]
    backend = Endpoint(server.url, "m", api="completions")
    (sample,) = backend.answers(subject, asked(prompt=[{"role": "user", "content": "hi"}], do_sample=False, temperature=1.0))
    assert (sample.response, sample.finished, sample.detail) == (" on", False, {})
    assert (server.seen[0]["path"], server.seen[0]["prompt"], server.seen[0]["temperature"]) == (
        "/v1/completions",
        "user: hi\nassistant:",
        0.0,
    )


def test_all_requests_are_answered(server: Server, subject: Subject) -> None:
    """Requests under way at a time, in any order: each gets its own sample."""
    found = list(Endpoint(server.url, "m", concurrency=4).answers(subject, asked(20)))
    assert {one.id for one in found} == {f"p{number}#0" for number in range(20)}
    assert len({body["seed"] for body in server.seen}) == 20


@pytest.mark.parametrize("busy", [(429, {"error": {"message": "slow down"}}), (503, "<html>"), (200, "<html>no JSON</html>")])
def test_tries_again(server: Server, subject: Subject, busy: tuple[int, Any]) -> None:
    """A busy endpoint, and a page that a proxy puts in its place, are asked again."""
    server.answers = [busy, busy, (200, chat("late"))]
    (sample,) = Endpoint(server.url, "m").answers(subject, asked())
    assert (sample.response, len(server.seen)) == ("late", 3)


@pytest.mark.parametrize(
    ("answer", "kind", "part"),
    [
        ((404, {"error": {"message": "no model m"}}), ConfigError, "(404): no model m"),
        ((400, {"error": "bad"}), ConfigError, "(400): bad"),
        ((401, {"error": {"message": f"wrong key {KEY}"}}), MachineError, "wrong key ***"),
        ((500, "oops"), MachineError, "did not answer in 3 tries: oops"),
        ((200, {"choices": []}), MachineError, "no answer that can be read"),
        ((302, ""), ConfigError, "(302)"),
    ],
)
def test_errors(
    server: Server, subject: Subject, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, Any], kind: type[Exception], part: str
) -> None:
    """What the endpoint refuses is one clear error; the key is in none."""
    monkeypatch.setenv("MY_KEY", KEY)
    server.answers, server.headers = [answer], {"Location": "http://127.0.0.1:9/"}
    with pytest.raises(kind) as caught:
        list(Endpoint(server.url, "m", key_env="MY_KEY", retries=2).answers(subject, asked()))
    assert part in str(caught.value)
    assert KEY not in str(caught.value)
    assert server.seen[0]["key"] == f"Bearer {KEY}"


def test_probe(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key and a silent address are refused before anything is loaded."""
    monkeypatch.delenv("MY_KEY", raising=False)
    refused = Endpoint(server.url, "m", key_env="MY_KEY").probe()
    assert isinstance(refused, Refused)
    assert "export MY_KEY" in refused.fix
    assert isinstance(Endpoint("http://127.0.0.1:9/v1", "m").probe(), Refused)
    assert isinstance(Endpoint(server.url, "m").probe(), Available)


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "localhost:8000"},
        {"url": "http://me:secret@localhost/v1"},
        {"key_env": KEY},
        {"extra": {"api_key": "abc"}},
    ],
)
def test_keys_have_no_place_in_a_suite(fields: dict[str, Any]) -> None:
    """An address without a scheme, and a key wherever it would be written into files, are refused."""
    with pytest.raises(ValueError, match=r"url|key"):
        Endpoint(**{"url": "http://localhost/v1", "model": "m", **fields})


def test_keys_of_samples(server: Server, subject: Subject, other: Subject) -> None:
    """An endpoint's answers are told apart by address, model and protocol, not by the weights in memory."""
    backend = Endpoint(server.url, "m")
    assert backend.digest(subject) == backend.digest(other) == Endpoint(f"{server.url}/", "m", concurrency=1).digest(subject)
    changed = [Endpoint("http://localhost/v1", "m"), Endpoint(server.url, "n"), Endpoint(server.url, "m", api="completions")]
    assert len({backend.digest(subject), *(one.digest(subject) for one in changed)}) == 4
    assert Native().digest(subject) == subject.digest != Native().digest(other)


def contents(folder: Path) -> str:
    """Everything that was written, as text."""
    return "".join(path.read_bytes().decode("utf-8", "replace") for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_suite_through_an_endpoint(
    suite_file: Path, plugins: PluginHost, subject: Subject, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers come from the endpoint, scores from the model in memory; no file holds the key; nothing is asked twice."""
    monkeypatch.setenv("MY_KEY", KEY)
    changes = ["backend.kind=endpoint", f"backend.url={server.url}", "backend.model=m", "backend.key_env=MY_KEY"]
    suite = load_suite(suite_file, plugins, changes)
    result = run_suite(subject, suite, tmp_path / "out")
    rows = EvalFolder(tmp_path / "out").samples()
    assert {row.response for row in rows} == {"An answer."}
    assert len(server.seen) == len(rows) == 10
    assert result.metrics["base_logp"].interval.n == 5
    about = EvalFolder(tmp_path / "out").document("manifest.json")
    assert about["backend"]["url"] == server.url
    assert KEY not in contents(tmp_path / "out")
    run_suite(subject, suite, tmp_path / "out")
    assert len(server.seen) == 10


def stub(monkeypatch: pytest.MonkeyPatch, finish: str = "stop") -> list[Any]:
    """A module in vLLM's place; returns what it is told."""
    told: list[Any] = []

    class LLM:
        def __init__(self, model: str, **engine: Any) -> None:
            told.append((model, sorted(path.name for path in Path(model).iterdir()), engine))

        def generate(self, prompts: list[Any], parameters: list[Any]) -> list[Any]:
            told.append((prompts, [one.given for one in parameters]))
            answer = SimpleNamespace(text=" yes ", finish_reason=finish, token_ids=[1, 2])
            return [SimpleNamespace(outputs=[answer]) for _ in prompts]

    class SamplingParams:
        def __init__(self, **given: Any) -> None:
            self.given = given

    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SamplingParams  # type: ignore[attr-defined]
    module.__spec__ = SimpleNamespace(name="vllm")  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "vllm", module)
    return told


@dataclass(frozen=True)
class Texting:
    """As much of a modality of text as the backend asks for."""

    model: str = "org/base"
    merge_on_save: bool = False

    def save(self, model: Any, folder: Path) -> None:
        """Says in a file's name whether it was told to merge."""
        (folder / f"merged-{self.merge_on_save}").touch()

    @property
    def encoder(self) -> Any:
        """Tokens are the letters' numbers."""
        uses: Callable[[Any], bool] = lambda prompt: not isinstance(prompt, str)  # noqa: E731
        return SimpleNamespace(
            prompts=lambda prompts: [tuple(map(ord, prompt)) for prompt in prompts],
            conversation=SimpleNamespace(uses_template=uses),
        )


def test_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine gets merged weights in a folder, the modality's own tokens and each request's seed; it gives samples."""
    told = stub(monkeypatch, "length")
    subject: Any = SimpleNamespace(modality=Texting(), model=None, adapter_off=False, digest="d")
    found = list(Vllm(engine={"dtype": "half"}, batch=2).answers(subject, asked(3, "hi", max_new_tokens=4, top_k=0)))
    (_, files, engine), (prompts, settings), last = told
    assert (files, engine) == (["merged-True"], {"dtype": "half"})
    assert prompts == [{"prompt_token_ids": [104, 105]}] * 2
    assert settings[1] == {"max_tokens": 4, "temperature": 0.0, "top_k": -1, "seed": 2**40 + 1}
    assert len(last[0]) == 1
    first = found[0]
    assert (first.id, first.response, first.finished, first.detail) == ("p0#0", " yes ", False, {"length": 2.0})
    assert len(found) == 3


def test_vllm_names_whose_code_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the suite lets vLLM run a model's own code, a warning names the model."""
    stub(monkeypatch)
    subject: Any = SimpleNamespace(name="org/coded", modality=Texting(), model=None, adapter_off=False, digest="d")
    with pytest.warns(RuntimeWarning, match="code that org/coded brings runs in vLLM"):
        list(Vllm(engine={"trust_remote_code": True}).answers(subject, asked(1, "hi")))


def test_vllm_is_an_extra(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the backend refuses with the exact command; a modality that is no text is refused in words."""
    refused = Vllm().probe()
    assert isinstance(refused, Refused)
    assert 'pip install "dpoframe[vllm]"' in refused.fix
    with pytest.raises(MachineError, match=r'pip install "dpoframe\[vllm\]"'):
        list(Vllm().answers(subject, asked()))
    stub(monkeypatch)
    with pytest.raises(ConfigError, match="no modality of text"):
        list(Vllm().answers(subject, asked()))


def test_unknown_settings(server: Server, subject: Subject) -> None:
    """A setting that has no counterpart is refused with the nearest, before anything is sent."""
    with pytest.raises(ConfigError, match="Did you mean 'temperature'"):
        list(Endpoint(server.url, "m").answers(subject, asked(temperatur=1)))
    assert server.seen == []
    with pytest.raises(ConfigError, match="Did you mean 'temperature'"):
        Vllm().draws(subject.modality, {"temperatur": 1})


def test_whether_answers_are_drawn(server: Server, subject: Subject) -> None:
    """A temperature makes answers differ, also one that stands among the endpoint's further keys; without one they are alike."""
    for backend in (Vllm(), Endpoint(server.url, "m")):
        assert [backend.draws(subject.modality, given) for given in ({}, {"temperature": 0.7}, {"do_sample": True})] == [
            False, True, True,
        ]  # fmt: skip
    assert Endpoint(server.url, "m", extra={"temperature": 1.0}).draws(subject.modality, {})
