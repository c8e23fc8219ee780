"""A client of endpoints that speak OpenAI's protocol: JSON over HTTP, retried where that may help, keys never shown."""

from __future__ import annotations

import http.client
import json
import math
import os
import queue
import random
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from dpoframe.config.secrets import masked
from dpoframe.errors import ConfigError, MachineError
from dpoframe.harness.storage.texts import all_well_formed

_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_LONGEST_PAUSE = 60.0
_LARGEST = 32 * 2**20
_AT_ONCE = 2**16
_GRACE = 0.5
_LONGEST_ERROR = 4096
_ERROR_PATIENCE = 10.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """None lets it end as an error."""


@dataclass(frozen=True)
class Client:
    """Posts JSON to one endpoint.

    Attributes:
        url: Its address up to and with the version, such as `http://localhost:8000/v1`.
        key_env: Name of the environment variable that holds the key; empty sends none.
        timeout: Seconds that one try may take.
        retries: Further tries after an answer that says "later", or none at all.
    """

    url: str
    key_env: str = ""
    timeout: float = 120.0
    retries: int = 4

    @property
    def key(self) -> str:
        """The key, or an empty string."""
        return os.environ.get(self.key_env, "") if self.key_env else ""

    def unreachable(self) -> str:
        """Why nothing can be asked, in words; empty where somebody listens, or where a proxy stands between."""
        parts = urlsplit(self.url)
        proxied = urllib.request.getproxies().get(parts.scheme) and not urllib.request.proxy_bypass(str(parts.hostname))
        if proxied:
            return ""
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            with socket.create_connection((str(parts.hostname), port), timeout=3):
                return ""
        except OSError as error:
            return f"nothing answers at {self.shown} ({error.strerror or error})"

    @property
    def shown(self) -> str:
        """The address without a name and password."""
        return str(masked(self.url))

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The endpoint's answer to `body`.

        Raises:
            ConfigError: it refuses the request: a wrong path, model or setting.
            MachineError: it refuses the key, does not answer after all tries, or answers without end.
        """
        last = ""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(self._pause(attempt, last))
            try:
                return self._once(path, body)
            except urllib.error.HTTPError as error:
                told = self._told(error)
                if error.code not in _AGAIN:
                    raise self._refusal(error.code, told) from None
                last = str(error.headers.get("Retry-After") or "")
            # ValueError: no JSON, as a proxy's page; RecursionError: JSON nested without end.
            except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
                told, last = f"{type(error).__name__}: {error}", ""
        raise MachineError(
            f"The endpoint {self.shown} did not answer in {self.retries + 1} tries: {self._plain(told)}. "
            "What was answered is kept: run the same command again when it is there."
        )

    def _once(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One try, which takes no longer than it may: a look-up of names, or headers that drip, know no timeout of their own."""
        done: queue.SimpleQueue[tuple[dict[str, Any], BaseException | None]] = queue.SimpleQueue()

        def ask() -> None:
            try:
                done.put((self._exchange(path, body), None))
            except BaseException as error:  # told in the asker's thread
                done.put(({}, error))

        threading.Thread(target=ask, daemon=True).start()
        try:
            found, error = done.get(timeout=self.timeout + _GRACE)
        except queue.Empty:
            raise TimeoutError(f"the answer was not whole after {self.timeout:g} s") from None
        if error is not None:
            raise error
        return found

    def _exchange(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {self.key}"} if self.key else {})}
        end = time.monotonic() + self.timeout
        request = urllib.request.Request(f"{self.url.rstrip('/')}/{path}", json.dumps(body).encode(), headers, method="POST")
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=self.timeout) as answer:
            found = all_well_formed(json.loads(self._content(answer, end)))
        if not isinstance(found, dict):
            raise ValueError(f"the answer is no JSON object: {found!r:.80}")  # noqa: TRY004 - as json.loads says it
        return found

    def _content(self, answer: http.client.HTTPResponse, end: float) -> bytes:
        """The body as it comes, piece by piece: a socket's own timeout starts anew with every byte."""
        content = bytearray()
        while piece := answer.read1(_AT_ONCE):
            content += piece
            if len(content) > _LARGEST:
                raise MachineError(f"The endpoint {self.shown} gave an answer of more than {_LARGEST // 2**20} MB.")
            if time.monotonic() > end:
                raise TimeoutError(f"the answer was not whole after {self.timeout:g} s")
        if answer.length:  # read() would have said so
            raise http.client.IncompleteRead(bytes(content), answer.length)
        return bytes(content)

    def _pause(self, attempt: int, asked: str) -> float:
        """Seconds to wait: what the endpoint asked for, else twice as long each time, not all at the same moment."""
        try:
            wanted = float(asked)
        except ValueError:
            wanted = math.nan
        if not wanted >= 0:  # also what is no number at all
            return float(min(0.25 * 2**attempt, _LONGEST_PAUSE) * random.SystemRandom().uniform(0.5, 1.0))
        return min(wanted, _LONGEST_PAUSE)

    def _refusal(self, code: int, told: str) -> ConfigError | MachineError:
        if code in (401, 403):
            have = f"the key in ${self.key_env}" if self.key else "a request without a key"
            fix = "Check the key." if self.key else "Name the environment variable that holds one: backend.key_env."
            return MachineError(f"The endpoint {self.shown} refuses {have} ({code}): {told}. {fix}")
        return ConfigError(f"The endpoint {self.shown} refuses the request ({code}): {told}")

    def _told(self, error: urllib.error.HTTPError) -> str:
        """What the endpoint says of an error, in one line."""
        try:
            with error:  # it holds the connection
                text = _beginning(error.fp).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            text = ""
        try:
            inner = json.loads(text)["error"]
            text = str(inner["message"] if isinstance(inner, dict) else inner)
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        return self._plain(" ".join(text.split())[:300] or error.reason)

    def _plain(self, text: str) -> str:
        return text.replace(self.key, "***") if self.key else text


def _beginning(stream: Any) -> bytes:
    """The first of what an error says, as much as comes in a while."""
    content, end = b"", time.monotonic() + _ERROR_PATIENCE
    while len(content) < _LONGEST_ERROR and time.monotonic() < end and (piece := stream.read1(_LONGEST_ERROR)):
        content += piece
    return content
