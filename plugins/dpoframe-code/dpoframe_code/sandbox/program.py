"""One program in its locked child, seen from outside."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from dpoframe_code.sandbox.call import Call
from dpoframe_code.sandbox.limits import Limits
from dpoframe_code.sandbox.outcome import Outcome, Status
from dpoframe_code.sandbox.tier import Tier
from dpoframe_code.sandbox.warm import WarmZygote, ZygoteError
from dpoframe_code.sandbox.wire import MAX_FRAME, WireError, decode, encode, frame, message

Asked = Callable[[str, tuple[Any, ...], dict[str, Any]], Outcome]
"""Answers what a tester's program asks: the name, the arguments; see `Program`."""

_CHUNK = 1 << 16
_MAX_ERROR = 500
_GRACE_SECONDS = 0.25
_FINAL_SECONDS = 10.0
# The kernel counts processor time for the limit by ticks, and tells of it exactly: the two differ.
_CLOCK_SHARE = 0.5
# By number: this module is imported on systems without these signals, too.
_SIGKILL, _SIGXCPU = 9, 24
_BY_LIMIT = (-_SIGKILL, -_SIGXCPU)
_SAID = {Status.RAISED, Status.LOAD_FAILED, Status.UNENCODABLE}


class EndedError(Exception):
    """The child has ended, or was ended; `status` says as what."""

    def __init__(self, status: Status, reason: str) -> None:
        self.status = status
        super().__init__(reason)


class Program:
    """A program that is loaded in a child of its own and answers calls.

    Args:
        zygote: What forks the child.
        tier: Its locks, to be stored in every outcome.
        limits: What the program may use.
        asked: Answers the functions named in `load(asks=...)`: this is how a tester's program reaches the candidate's.

    Raises:
        ZygoteError: The zygote is dead.
    """

    def __init__(self, zygote: WarmZygote, tier: Tier, limits: Limits, asked: Asked | None = None) -> None:
        self._tier, self._limits, self._asked = tier, limits, asked
        self._received, self._kept, self._written = bytearray(), bytearray(), 0
        self._locked = False
        self._told: dict[str, Any] | None = None
        self._ended: EndedError | None = None
        # Only while an answer is waited for does the clock run: a program is not to blame for the time between its calls.
        self._left, self._deadline = limits.wall, 0.0
        self._wire, wire = socket.socketpair()
        self._status, status = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._output, output = os.pipe()
        try:
            request: dict[str, object] = {"cpu_seconds": int(limits.cpu_seconds), "memory_bytes": limits.memory_bytes}
            zygote.spawn(request, (wire.fileno(), output, status.fileno()))
        except BaseException:
            self._close()
            raise
        finally:
            wire.close()
            status.close()
            os.close(output)
        for descriptor in (self._wire.fileno(), self._output, self._status.fileno()):
            os.set_blocking(descriptor, False)

    def load(self, source: str, asks: Sequence[str] = ()) -> Outcome:
        """Runs the program's own lines. After another status than returned no call is answered."""
        try:
            loaded = self._exchange({"load": source, "asks": list(asks)})
        except WireError as error:  # nothing of it was sent
            loaded = Outcome(Status.LOAD_FAILED, self._tier, error=f"the source is too long: {error}")
        if loaded.status is not Status.RETURNED and self._ended is None:
            self._ended = EndedError(loaded.status, loaded.error)
            self._kill()
        return loaded

    def call(self, call: Call) -> Outcome:
        """Asks for one call.

        Raises:
            WireError: An argument is not plain data.
        """
        return self._exchange(dict(call.tagged()))

    def _exchange(self, request: dict[str, object]) -> Outcome:
        """Sends a request and waits for its reply."""
        begin = time.monotonic()
        self._deadline = begin + self._left
        try:
            status, value, error = self._reply(request)
        except EndedError as ended:
            self._ended = ended
            status, value, error = ended.status, None, str(ended)
        self._left = self._deadline - time.monotonic()
        return Outcome(status, self._tier, value, error, time.monotonic() - begin)

    def _reply(self, request: dict[str, object]) -> tuple[Status, Any, str]:
        if self._ended is not None:
            raise EndedError(self._ended.status, f"not reached: {self._ended}")
        # A number that cannot be known beforehand: an answer that was sent ahead of its question is no answer.
        nonce = secrets.token_hex(8)
        self._send({**request, "nonce": nonce})
        while True:
            try:
                got = message(self._frame())
                if got == {"locked": True} and not self._locked:
                    self._locked = True
                elif "ask" in got and self._asked is not None:
                    self._send(self._answer(got, self._asked))
                elif got.get("nonce") == nonce:
                    return _reading(got)
                else:
                    raise WireError("an answer that nobody asked for")
            except WireError as error:
                self._kill()
                raise EndedError(Status.DIED, f"the program spoke on the wire itself: {error}") from None

    def _answer(self, got: dict[str, Any], asked: Asked) -> dict[str, object]:
        """What goes back to a tester's program; the time that the candidate takes is not the tester's."""
        begin = time.monotonic()
        outcome = asked(*_question(got))
        self._deadline += time.monotonic() - begin
        return {"status": outcome.status.value, "value": encode(outcome.value)}

    def _send(self, request: dict[str, object]) -> None:
        left = memoryview(frame(request))
        while left:
            if self._wait(select.POLLOUT):
                try:
                    left = left[self._wire.send(left) :]
                except BlockingIOError:
                    continue
                except OSError:
                    raise self._gone() from None

    def _frame(self) -> bytes:
        """The payload of the next frame."""
        while True:
            if len(self._received) >= 4:
                size = int.from_bytes(self._received[:4], "big")
                if size > MAX_FRAME:
                    raise WireError(f"a message of {size} bytes")
                if len(self._received) >= 4 + size:
                    payload = bytes(self._received[4 : 4 + size])
                    del self._received[: 4 + size]
                    return payload
            if self._wait(select.POLLIN):
                self._read_wire()

    def _read_wire(self) -> None:
        try:
            part = self._wire.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            raise self._gone()
        self._received += part

    def _wait(self, event: int) -> bool:
        """Waits until the wire is ready, draining output and reading the status meanwhile."""
        poll = select.poll()
        poll.register(self._wire, event)
        poll.register(self._output, select.POLLIN)
        left = self._deadline - time.monotonic()
        ready = dict(poll.poll(max(0, int(left * 1000) + 1))) if left > 0 else {}
        if not ready:
            self._kill()
            raise EndedError(Status.TIMEOUT, f"{self._limits.wall:g} s by the clock ran out")
        if self._output in ready:
            self._drain()
            # An output that was closed is always ready: the wire alone is waited for then.
            if ready[self._output] & select.POLLHUP and self._wire.fileno() not in ready:
                return self._wait_wire(event)
        return self._wire.fileno() in ready

    def _wait_wire(self, event: int) -> bool:
        poll = select.poll()
        poll.register(self._wire, event)
        return bool(poll.poll(max(1, int((self._deadline - time.monotonic()) * 1000))))

    def _drain(self) -> None:
        """Reads what the program wrote, keeps its beginning, and ends a program that floods."""
        try:
            part = os.read(self._output, _CHUNK)
        except BlockingIOError:
            return
        self._written += len(part)
        self._kept += part[: self._limits.output_bytes - len(self._kept)]
        if self._written > self._limits.flood_bytes:
            self._kill()
            raise EndedError(Status.DIED, f"wrote more than {self._limits.flood_bytes} bytes to standard output")

    def _gone(self) -> EndedError:
        """The wire has closed: what ended the child."""
        told = self._ending(_GRACE_SECONDS)
        if told is None:
            self._kill()
            told = self._ending(_FINAL_SECONDS)
            if told is not None and self._locked:
                return EndedError(Status.DIED, "the program closed the wire")
        if told is None or "failed" in told:
            return EndedError(Status.INFRA_ERROR, "the locks: " + str((told or {}).get("failed", "the child does not end")))
        return self._ended_as(told["ended"], told["cpu"])

    def _ended_as(self, code: int, cpu: float) -> EndedError:
        """What an exit code means, after so many seconds of processor time."""
        if not self._locked:
            return EndedError(Status.INFRA_ERROR, f"the child ended before it was locked ({code})")
        if code in _BY_LIMIT and cpu >= _CLOCK_SHARE * self._limits.cpu_seconds:
            return EndedError(Status.TIMEOUT, f"{self._limits.cpu_seconds} s of processor time ran out")
        # No program can send itself this signal: it comes from a kernel without memory, or from somebody with a reason.
        if code == -_SIGKILL:
            return EndedError(Status.INFRA_ERROR, "killed from outside the sandbox; did the machine run out of memory?")
        return EndedError(Status.DIED, f"ended by signal {-code}" if code < 0 else f"the process left with code {code}")

    def _ending(self, seconds: float) -> dict[str, Any] | None:
        """What the zygote says of the child's end; None where it says nothing in time.

        Raises:
            ZygoteError: The zygote has died.
        """
        poll = select.poll()
        poll.register(self._status, select.POLLIN)
        if self._told is None and poll.poll(int(seconds * 1000)):
            try:
                word = self._status.recv(1 << 16)
            except OSError:
                word = b""
            if not word:
                raise ZygoteError("the zygote ended while a program ran")
            self._told = json.loads(word)
        return self._told

    def _kill(self) -> None:
        # The end of what this side says is the wish. A word that lay unread would reset the socket, and lose the answer.
        with contextlib.suppress(OSError):
            self._status.shutdown(socket.SHUT_WR)

    def end(self) -> tuple[float | None, str]:
        """Ends the child and waits until it is gone: its processor time, and the beginning of its output.

        Raises:
            ZygoteError: The zygote died, or does not end the child.
        """
        try:
            if self._ended is None:
                # A child that is not busy leaves when the wire closes; one that is busy, or plays dead, is killed.
                with contextlib.suppress(OSError):
                    self._wire.shutdown(socket.SHUT_RDWR)
            told = self._ending(_GRACE_SECONDS)
            if told is None:
                self._kill()
                told = self._ending(_FINAL_SECONDS)
            if told is None:
                raise ZygoteError("the zygote does not end a child")
            return told.get("cpu"), self._rest()
        finally:
            self._close()

    def _rest(self) -> str:
        """All output that is kept, after reading what a dead child has left in the pipe."""
        while len(self._kept) < self._limits.output_bytes:
            try:
                part = os.read(self._output, _CHUNK)
            except BlockingIOError:
                break
            if not part:
                break
            self._kept += part
        return self._kept[: self._limits.output_bytes].decode("utf-8", "replace")

    def _close(self) -> None:
        self._wire.close()
        self._status.close()
        os.close(self._output)


def _reading(got: dict[str, Any]) -> tuple[Status, Any, str]:
    """Status, value and error of a reply. It may be forged with the right number: no part of it is taken for granted.

    Raises:
        WireError: It is not of the form of a reply.
    """
    status, error = got.get("status"), got.get("error")
    if status == "returned" and "value" in got:
        return Status.RETURNED, decode(got["value"]), ""
    if type(status) is not str or status not in _SAID or type(error) is not str:
        raise WireError("a reply of no known form")
    return Status(status), None, error[:_MAX_ERROR].encode("utf-8", "replace").decode("utf-8")


def _question(got: dict[str, Any]) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Name and arguments of what a tester's program asks.

    Raises:
        WireError: It is not of the form of a question.
    """
    name, args, kwargs = got["ask"], decode(got.get("args")), decode(got.get("kwargs"))
    named = type(kwargs) is dict and all(type(key) is str for key in kwargs)
    if type(name) is not str or type(args) is not tuple or not named:
        raise WireError("a question of no known form")
    return name, args, kwargs
