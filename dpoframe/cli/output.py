"""What the command line says, and where: documents and texts on stdout, all talk on stderr.

`main` opens one `session` a command. A verb calls `emit` once with its result, in both forms, and `say` as often as it likes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

# C0 and C1 controls but for newline and tab, and the marks that reverse the order of text on a screen.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_WIDE = 10_000
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


@dataclass
class Session:
    """How the running command speaks: `json` for a machine, `debug` with tracebacks; `stdout` is the real one."""

    json: bool
    debug: bool
    stdout: TextIO
    emitted: bool = False


class PipeClosedError(Exception):
    """Whoever read the output went away, as `head` does."""


_open: list[Session] = []


@contextlib.contextmanager
def session(*, json: bool = False, debug: bool = False) -> Iterator[Session]:
    """Opens the output of one command. With `json`, whatever a library prints on stdout meanwhile goes to stderr."""
    opened = Session(json, debug, sys.stdout)
    _open.append(opened)
    try:
        with plain_warnings(debug), contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext():
            yield opened
    finally:
        _open.remove(opened)


@contextlib.contextmanager
def plain_warnings(debug: bool) -> Iterator[None]:
    """Context in which a warning is a line of its own, without the place in the code that gave it, which `debug` keeps."""
    with warnings.catch_warnings():
        if not debug:
            warnings.showwarning = lambda message, *rest: say(f"warning: {message}")
        yield


def current() -> Session:
    """The innermost open session; a plain one where none is open (a verb's function called from Python)."""
    return _open[-1] if _open else Session(json=False, debug=False, stdout=sys.stdout)


def json_wanted() -> bool:
    """Whether the command runs with --json, so that decoration can be left out."""
    return current().json


def emit(document: Any, text: RenderableType) -> None:
    """Gives the command's result on stdout: `document` as the one JSON document with --json, else `text`.

    Args:
        document: Mappings, sequences, dataclasses, paths, strings, numbers; a number that is not finite becomes null.
        text: The same for a person: a string (newlines kept, control characters escaped) or anything rich renders.
    """
    opened = current()
    if opened.emitted and opened.json:
        raise RuntimeError("emit() was called twice: with --json a command gives exactly one document.")
    opened.emitted = True
    if _other_rank():
        return
    try:
        if opened.json:
            opened.stdout.write(json.dumps(plain(document), indent=2) + "\n")
        elif isinstance(text, str):
            opened.stdout.write(escaped(text).rstrip("\n") + "\n")
        else:
            console(opened.stdout).print(text)
        opened.stdout.flush()
    except BrokenPipeError as error:
        raise PipeClosedError from error


def say(text: RenderableType, style: str = "") -> None:
    """Tells a person something on stderr: progress, a warning, a hint. Square brackets in `text` are no markup."""
    out = console(sys.stderr)
    if isinstance(text, str):
        out.print(escaped(text), style=style or None, markup=False, highlight=False, soft_wrap=True)
    else:
        out.print(text, style=style or None)


def console(stream: TextIO) -> Console:
    """A rich console on `stream`; lines are cut to a terminal's width, and not at all in a pipe or file."""
    from rich.console import Console

    class Piped(Console):
        """Leaves a closed pipe to `main`, where rich would end the process itself."""

        def on_broken_pipe(self) -> None:
            raise PipeClosedError

    return Piped(file=stream, width=None if stream.isatty() else _WIDE)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A plain table for `emit`. Cells are shown as they are, control characters escaped."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(*columns, box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for row in rows:
        made.add_row(*(Text(escaped(str(cell))) for cell in row))
    return made


def escaped(text: str) -> str:
    """`text` with control characters written out, so that a file's content can not steer the terminal."""
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def plain(value: Any) -> Any:
    """`value` as JSON knows it: dataclasses and mappings become objects, paths strings, non-finite numbers null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [plain(item) for item in value]
    if not isinstance(value, PurePath) and hasattr(value, "item"):
        return plain(value.item())
    return str(value)


def _other_rank() -> bool:
    """Whether this process is a rank other than 0 of a distributed run, whose result is rank 0's to give."""
    return next((os.environ[name] for name in _RANKS if name in os.environ), "0") != "0"
