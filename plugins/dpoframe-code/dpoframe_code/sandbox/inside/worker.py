"""The locked child: loads one program and answers calls of it, until the wire closes.

Nothing here is trusted once the program runs, for it shares the process: whatever it does to this code, it can only send
other answers, and the expected ones are not here.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from dpoframe_code.sandbox.inside.channel import Channel
from dpoframe_code.sandbox.inside.locks import Locks
from dpoframe_code.sandbox.wire import WireError, decode, encode

WIRE, STATUS = 3, 4
_MOST_DESCRIPTORS = 1 << 20
_MAX_ERROR = 500
_MODULE = "program"


class NoAnswerError(Exception):
    """Raised in a tester's program: what it asked for did not come back as an answer."""


def main(wire: int, output: int, status: int, locks: Locks, limits: Mapping[str, Any], zygote: int) -> NoReturn:
    """Becomes the worker: locks itself, tells so, and serves. `zygote` is the process that forked it."""
    try:
        try:
            _arrange(wire, output, status, locks.descriptors)
            locks.put_on(limits)
            # The end of a zygote that was gone before the locks asked for it would end nothing.
            if os.getppid() != zygote:
                raise ProcessLookupError("the zygote has ended")
        except BaseException as error:
            _tell_failure(error)
            os._exit(1)
        os.close(STATUS)
        channel = Channel(WIRE)
        channel.send({"locked": True})
        _serve(channel)
    except BaseException:
        os._exit(1)
    os._exit(0)


def _arrange(wire: int, output: int, status: int, keep: Sequence[int]) -> None:
    """Leaves standard input, output, wire, status and what the locks need; all else that the zygote has open is closed."""
    # The zygote keeps 3 and 4 taken, so that no source is also a target.
    for source, target in ((output, 1), (output, 2), (wire, WIRE), (status, STATUS)):
        os.dup2(source, target)
    low = STATUS + 1
    for held in sorted(keep):
        os.closerange(low, held)
        low = held + 1
    os.closerange(low, _MOST_DESCRIPTORS)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _tell_failure(error: BaseException) -> None:
    os.write(STATUS, json.dumps({"failed": f"{type(error).__name__}: {error}"}).encode())


def _serve(channel: Channel) -> None:
    """Loads the program, then answers one call after the other."""
    request = channel.receive()
    if request is None:
        return
    random.seed(0)  # a fork makes it new; a verdict should be had again
    program = types.ModuleType(_MODULE)
    sys.modules[_MODULE] = program
    for name in request["asks"]:
        setattr(program, name, _asker(channel, name))
    reply = _loaded(request["load"], program)
    while True:
        _flush()
        try:
            channel.send({"nonce": request["nonce"], **reply})
        except WireError as error:
            channel.send({"nonce": request["nonce"], "status": "unencodable", "error": str(error)})
        request = channel.receive()
        if request is None:
            return
        reply = _answer(program, request)


def _loaded(source: str, program: types.ModuleType) -> dict[str, object]:
    try:
        exec(compile(source, f"<{_MODULE}>", "exec", dont_inherit=True), program.__dict__)
    except BaseException as error:
        return {"status": "load_failed", "error": _said(error)}
    return {"status": "returned", "value": None}


def _answer(program: types.ModuleType, request: dict[str, Any]) -> dict[str, object]:
    args, kwargs = decode(request["args"]), decode(request["kwargs"])
    try:
        value: Any = program
        for name in request["function"].split("."):
            value = getattr(value, name)
        value = value(*args, **kwargs)
    except BaseException as error:
        return {"status": "raised", "error": _said(error)}
    try:
        return {"status": "returned", "value": encode(value)}
    # A value can be hostile even to what only looks at it, such as a type whose __mro__ is odd.
    except BaseException as error:
        return {"status": "unencodable", "error": _said(error)}


def _said(error: BaseException) -> str:
    """Type and text of an exception, as far as it lets itself be asked."""
    try:
        return f"{type(error).__name__}: {error!s}"[:_MAX_ERROR]
    except BaseException:
        return "an exception that cannot be shown"


def _flush() -> None:
    """Sends on what the program has printed. Its streams may be closed, replaced or worse."""
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()  # type: ignore[union-attr]
        except BaseException:
            continue


def _asker(channel: Channel, name: str) -> Any:
    """A function of a tester's program that is answered from outside."""

    def ask(*args: Any, **kwargs: Any) -> Any:
        channel.send({"ask": name, "args": encode(args), "kwargs": encode(kwargs)})
        reply = channel.receive()
        if reply is None:
            raise SystemExit
        if reply["status"] != "returned":
            raise NoAnswerError(reply["status"])
        return decode(reply["value"])

    return ask
