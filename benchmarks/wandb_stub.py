#!/usr/bin/env python3
"""Answers what W&B's client asks when a run starts, so that its server can die, or fall silent, in the middle of one.

python3 benchmarks/wandb_stub.py              # prints its port, then the name of each operation that it was asked for
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

USER = {"id": "v", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}
BUCKET = {"id": "b", "name": "r", "displayName": "r", "description": "", "config": "{}", "sweepName": None, "historyLineCount": 0}
PROJECT = {"project": {"name": "dpoframe", "entity": {"name": "me"}}}
ANSWERS: Mapping[str, Any] = {
    "ServerInfo": {"serverInfo": {"cliVersionInfo": {}, "features": [], "latestLocalVersionInfo": None}},
    "Viewer": {"viewer": USER},
    "RunResumeStatus": {"model": None},
    "UpsertBucket": {"upsertBucket": {"bucket": BUCKET | PROJECT, "inserted": True}},
}
"""By GraphQL's operations; whatever else is asked for gets nothing, with which the client (0.31) goes on."""


class Answering(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """GraphQL by the operation's name; uploads are taken."""
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = re.search(r"(?:query|mutation) (\w+)", asked.decode(errors="replace")) if "graphql" in self.path else None
        name = found[1] if found else ""
        print(name or self.path, flush=True)
        answer = json.dumps({"data": ANSWERS.get(name, {})}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_PUT = do_GET = do_POST  # noqa: N815 - the base's own names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's own name
        """Says nothing."""


class Stub:
    """The server as a child of this process; `log` holds what it was asked for."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen([sys.executable, __file__], stdout=file, start_new_session=True)
        while not (lines := log.read_text().splitlines()):
            time.sleep(0.01)
        self.address = f"http://127.0.0.1:{lines[0]}"

    @property
    def started(self) -> bool:
        """Whether a run has begun with it."""
        return "UpsertBucket" in self.log.read_text()

    def end(self, number: int) -> None:
        """SIGKILL, after which nothing listens; or SIGSTOP, after which connections are taken and never answered."""
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait()

    def close(self) -> None:
        """Ends it for good."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()

    def environment(self, folder: Path) -> dict[str, str]:
        """That of a process which reports to it and keeps W&B's files in `folder`."""
        folder.mkdir(exist_ok=True)
        places = {f"WANDB_{key}": str(folder) for key in ("DIR", "DATA_DIR", "CACHE_DIR", "CONFIG_DIR")}
        own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        return own | places | {"WANDB_BASE_URL": self.address, "WANDB_API_KEY": "0" * 40, "WANDB_SILENT": "true"}


@dataclass
class Watched:
    """A run through the command line.

    Attributes:
        code: Its exit code, None where it was there after `LIMIT` seconds.
        first: Seconds from the recipe in its folder, behind which only the trainer and the reporters start, to its first row.
        last: Seconds from the model's export to its end.
    """

    code: int | None
    first: float
    last: float


LIMIT = 180.0


def watched(recipe: Path, out: Path, environment: Mapping[str, str], at_first_row: Callable[[], Any] = lambda: None) -> Watched:
    """Trains by a recipe as a user does."""
    line = [sys.executable, "-m", "dpoframe", "train", str(recipe), "--out", str(out)]
    rows, began = out / "metrics.jsonl", time.monotonic()
    with out.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(line, env=dict(environment), stdout=log, stderr=log, start_new_session=True)
    while process.poll() is None and time.monotonic() - began < LIMIT and not (rows.is_file() and rows.stat().st_size):
        time.sleep(0.002)
    kept = out / "recipe.yaml"
    first = time.time() - kept.stat().st_mtime if kept.is_file() else math.inf
    at_first_row()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(LIMIT)
    exported = out / "model" / "dpoframe.json"
    last = time.time() - exported.stat().st_mtime if exported.is_file() else 0.0
    return Watched(process.returncode, first, last)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    print(server.server_address[1], flush=True)
    server.serve_forever()
