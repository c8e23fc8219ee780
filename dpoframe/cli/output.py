"""What the command line says, and where: documents and texts on stdout, all talk on stderr.

`main` opens one `session` a command. A verb calls `emit` once with its result, in both forms, and `say` as often as it likes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import math
import os
import re
import stat
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TextIO

from dpoframe.config.secrets import scrubbed
from dpoframe.errors import MachineError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

# C0 and C1 controls but for newline and tab, and the marks that reverse the order of text on a screen.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_WIDE = 10_000
_PIPED = 100
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


def require_streams() -> None:
    """Puts the null device in the place of standard streams that are closed: else the next file opened would take their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
            if getattr(sys, name) is None:
                stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
                setattr(sys, name, stream)
                setattr(sys, f"__{name}__", stream)


@contextlib.contextmanager
def session(*, json: bool = False, debug: bool = False) -> Iterator[Session]:
    """Opens the output of one command. With `json`, whatever else is written to stdout meanwhile goes to stderr."""
    with contextlib.ExitStack() as stack:
        opened = Session(json, debug, stack.enter_context(_stdout_aside()) if json else sys.stdout)
        _open.append(opened)
        stack.callback(_open.remove, opened)
        stack.enter_context(plain_warnings(debug))
        if json:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield opened


@contextlib.contextmanager
def _stdout_aside() -> Iterator[TextIO]:
    """The real stdout, while the process's descriptor 1 is stderr: C libraries and child processes write to that, too."""
    real, talk = sys.__stdout__, sys.__stderr__
    if real is None or talk is None or sys.stdout is not real:
        yield sys.stdout
        return
    real.flush()
    kept = os.dup(real.fileno())
    os.dup2(talk.fileno(), real.fileno())
    try:
        with contextlib.suppress(OSError), os.fdopen(os.dup(kept), "w", encoding=real.encoding, errors=real.errors) as stream:
            yield stream
    finally:
        os.dup2(kept, real.fileno())
        os.close(kept)


@contextlib.contextmanager
def plain_warnings(debug: bool) -> Iterator[None]:
    """Context in which a warning is a line of its own, without the place in the code that gave it, which `debug` keeps."""
    with warnings.catch_warnings():
        # As a warning is written, but without secrets and with control characters escaped.
        warnings.showwarning = lambda message, *rest: say(
            warnings.formatwarning(message, *rest[:3]).rstrip("\n") if debug else f"warning: {message}"
        )
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
    if other_rank():
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
    except OSError as error:
        if not _hung_up(opened.stdout, error):
            raise MachineError(f"The result could not be written to standard output: {error.strerror}.") from error


def _hung_up(stream: TextIO, error: OSError) -> bool:
    """Whether a terminal was closed: nobody is left to read, and what was done stands."""
    return error.errno == errno.EIO and stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)


def say(text: RenderableType, style: str = "") -> None:
    """Tells a person something on stderr: progress, a warning, a hint. Square brackets in `text` are no markup; secrets are masked.

    What stderr does not take, a log on a full disk for example, is lost: no command fails for that.
    """
    out = console(sys.stderr)
    with contextlib.suppress(OSError):
        if isinstance(text, str):
            out.print(escaped(scrubbed(text)), style=style or None, markup=False, highlight=False, soft_wrap=True)
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


def fitted(made: Table) -> RenderableType:
    """A table that is at most 100 columns wide in a pipe or file: where a cell holds a long list, its lines are broken."""
    from rich.constrain import Constrain

    return made if current().stdout.isatty() else Constrain(made, _PIPED)


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


def other_rank() -> bool:
    """Whether this process is a rank other than 0 of a distributed run, whose result is rank 0's to give."""
    return next((os.environ[name] for name in _RANKS if name in os.environ), "0") != "0"
