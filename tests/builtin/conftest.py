"""A stand-in for an endpoint that speaks OpenAI's protocol, on this machine."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class StandIn:
    """Answers every question with `reply`; `statuses` are given first, one a request, in place of an answer.

    Attributes:
        url: Where it listens.
        reply: From the question to the answer's text.
        statuses: HTTP statuses, each with its body and headers.
        bodies: What was asked, in the order of arrival.
        headers: The headers it came with.
    """

    url: str = ""
    reply: Callable[[str], Any] = lambda question: "A"
    statuses: list[tuple[int, str, Mapping[str, str]]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def handle(self, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, str, Mapping[str, str]]:
        """Status, body and headers of the answer to one request."""
        self.bodies.append(body)
        self.headers.append(headers)
        if self.statuses:
            return self.statuses.pop(0)
        content = self.reply(body["messages"][0]["content"])
        return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}), {}


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """An endpoint that listens while the test runs."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, text, headers = made.handle({"path": self.path, **body}, dict(self.headers))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the caller has given up
                self.end_headers()
                self.wfile.write(text.encode())

        def log_message(self, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield made
    server.shutdown()
    server.server_close()
    thread.join()
