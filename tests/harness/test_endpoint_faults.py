"""Endpoints that never end: what becomes of an answer that drips or has no end, and of a process that is told to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dpoframe.errors import ConfigError, MachineError
from dpoframe.harness import Subject
from dpoframe.harness.backends import Endpoint
from dpoframe.harness.backends import client as client_module
from dpoframe.harness.backends.asking import answered
from dpoframe.types import Request

ANSWER = json.dumps({"choices": [{"message": {"content": "half \ud800"}, "finish_reason": "stop"}]}).encode()

ASKING = """
import sys
from dpoframe.cli.termination import terminable
from dpoframe.harness.backends import Endpoint
from dpoframe.types import Request
requests = [Request(f"p{number}#0", "ask", 1) for number in range(4)]
list(Endpoint(sys.argv[1], "m", concurrency=2).answers(None, requests))
"""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[Any], None]], str]]:
    """Starts a server whose body is what a function writes; returns its address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers = []

    def serve(write: Callable[[Any], None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                try:
                    if write is not dripping_headers:
                        self.send_response(200 if write is not refusing else 400)
                        self.end_headers()
                    write(self.wfile)
                except OSError:
                    """The asker has gone."""

            def log_message(self, *args: Any) -> None:
                """Says nothing."""

        made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        made.daemon_threads = True
        servers.append(made)
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{made.server_port}/v1"

    yield serve
    for made in servers:
        made.shutdown()
        made.socket.close()


def dripping(file: Any) -> None:
    """A byte now and then, for as long as anybody reads."""
    for _ in range(1200):
        file.write(b" ")
        threading.Event().wait(0.05)


def dripping_headers(file: Any) -> None:
    """The same in a header's line."""
    file.write(b"HTTP/1.0 200 OK\r\nX: ")
    dripping(file)


def refusing(file: Any) -> None:
    """An error that drips."""
    file.write(b"wrong")
    dripping(file)


@pytest.mark.parametrize("write", [dripping, dripping_headers])
def test_an_answer_that_drips(write: Callable[[Any], None], served: Callable[..., str], subject: Subject) -> None:
    """One try ends at its timeout, however often a byte comes."""
    start = time.monotonic()
    with pytest.raises(MachineError, match=r"not whole after 0\.4 s"):
        list(Endpoint(served(write), "m", timeout=0.4, retries=0).answers(subject, [Request("a", "ask", 1)]))
    assert time.monotonic() - start < 20


def test_an_error_that_drips(served: Callable[..., str], subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an endpoint says of an error is told as far as it came in a while."""
    monkeypatch.setattr(client_module, "_ERROR_PATIENCE", 0.3)
    start = time.monotonic()
    with pytest.raises(ConfigError, match=r"\(400\): wrong"):
        list(Endpoint(served(refusing), "m").answers(subject, [Request("a", "ask", 1)]))
    assert time.monotonic() - start < 20


def test_an_answer_without_end(served: Callable[..., str], subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer larger than any model writes is refused at once, not kept in memory and not asked for again."""
    monkeypatch.setattr(client_module, "_LARGEST", 2**20)
    asked = []

    def pouring(file: Any) -> None:
        asked.append(1)
        for _ in range(2**12):
            file.write(b" " * 2**16)

    with pytest.raises(MachineError, match="more than 1 MB"):
        list(Endpoint(served(pouring), "m").answers(subject, [Request("a", "ask", 1)]))
    assert len(asked) == 1


def test_half_a_character_from_an_endpoint(served: Callable[..., str], subject: Subject) -> None:
    """It is U+FFFD in the answer, as in every file."""
    (sample,) = Endpoint(served(lambda file: file.write(ANSWER)), "m").answers(subject, [Request("a", "ask", 1)])
    assert sample.response == "half \ufffd"


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_asker(number: int, served: Callable[..., str]) -> None:
    """A process whose requests are all under way ends when it is told to; it waits for none of them."""
    begun = threading.Event()

    def hanging(file: Any) -> None:
        begun.set()
        dripping(file)

    line = [sys.executable, "-c", ASKING.replace("list(", "with terminable():\n    list("), served(hanging)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert begun.wait(60)
    process.send_signal(number)
    try:
        process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode != 0


def test_the_first_failure_ends_the_asking() -> None:
    """What is not yet begun is not asked once one fails."""
    asked = []

    def ask(item: int) -> int:
        asked.append(item)
        raise ValueError(item)

    with pytest.raises(ValueError, match="0"):
        list(answered(ask, list(range(50)), 1))
    assert len(asked) < 50
    assert sorted(answered(str, [5, 6, 7], 2)) == [(0, "5"), (1, "6"), (2, "7")]
    assert list(answered(str, [], 2)) == []


@pytest.mark.parametrize(
    ("asked", "least", "most"), [("2", 2.0, 2.0), ("1e9", 60.0, 60.0), ("-1", 0.1, 1.0), ("nan", 0.1, 1.0), ("x", 0.1, 1.0)]
)
def test_a_pause_that_is_no_time(asked: str, least: float, most: float) -> None:
    """What an endpoint asks to be waited is waited, a minute at most; where it is no time the asker's own pause is."""
    assert least <= client_module.Client("http://h/v1")._pause(1, asked) <= most


def test_addresses_in_prompts_are_not_handed_on(subject: Subject) -> None:
    """A prompt with the address of a picture, which the endpoint would fetch from inside its network, is refused unasked."""
    address = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}}
    prompt = [{"role": "user", "content": [{"type": "text", "text": "look"}, address]}]
    with pytest.raises(ConfigError, match="parts of the type image_url"):
        list(Endpoint("http://127.0.0.1:9/v1", "m", retries=0).answers(subject, [Request("a", prompt, 1)]))
