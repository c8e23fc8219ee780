"""From an exception to what the user reads and the exit code the shell gets.

0    done
1    the job failed, or an internal error
2    usage, recipe, data or plugin: the user can mend it
3    the machine lacks something: a package, room, permission, memory
130  interrupted; 143 by SIGTERM, 129 by SIGHUP
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dpoframe.cli import output
from dpoframe.cli.termination import Terminated
from dpoframe.config.secrets import scrubbed
from dpoframe.errors import ConfigError, DpoframeError, Fault

_SIGNALLED = 128
_CLOSED_PIPE = _SIGNALLED + 13
_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}
_REFUSED = {
    errno.EACCES: "No permission",
    errno.EPERM: "No permission",
    errno.EROFS: "The file system is read-only",
    errno.ENOSPC: "The disk is full",
    errno.EDQUOT: "The disk quota is used up",
    errno.EMFILE: "Too many files are open",
}
# What torch's and safetensors' writers raise for a full disk: no OSError, no errno.
_DISK_TEXTS = ("No space left on device", "PytorchStreamWriter failed", "inline_container.cc")


class InterruptedVerbError(Exception):
    """Ctrl-C while a verb ran that did not handle it."""


@dataclass(frozen=True)
class Failure:
    """How a command ended badly: `kind` is the error's class name, `message` what the user reads."""

    kind: str
    message: str
    exit_code: int
    faults: tuple[Fault, ...] = ()


def report(error: BaseException, words: Sequence[str]) -> int:
    """Tells the user of `error` on stderr, and on stdout with --json; returns the exit code.

    Args:
        error: What ended the command.
        words: The command line, to know whether the run can be resumed.
    """
    try:
        if isinstance(error, output.PipeClosedError | BrokenPipeError):
            return _CLOSED_PIPE
        return _tell(error, words)
    except (output.PipeClosedError, BrokenPipeError):
        return _CLOSED_PIPE
    finally:
        _settle()


def _tell(error: BaseException, words: Sequence[str]) -> int:
    failure = without_secrets(describe(error, words))
    opened = output.current()
    if opened.debug:
        output.say("".join(traceback.format_exception(error)))
    output.say(failure.message if failure.exit_code > _SIGNALLED else f"error: {failure.message}", style="red")
    if opened.json and not opened.emitted:
        output.emit({"error": failure}, "")
    return failure.exit_code


def without_secrets(failure: Failure) -> Failure:
    """`failure` for logs and files: an error's text may hold what it was given."""
    faults = tuple(Fault(scrubbed(one.where), scrubbed(one.message), scrubbed(one.fix)) for one in failure.faults)
    return replace(failure, message=scrubbed(failure.message), faults=faults)


def describe(error: BaseException, words: Sequence[str] = ()) -> Failure:
    """What `error` means to the user."""
    kind = type(error).__name__
    if isinstance(error, KeyboardInterrupt | InterruptedVerbError) or kind == "Abort":
        number = next((one.number for one in _chain(error) if isinstance(one, Terminated)), signal.SIGINT)
        return Failure("Interrupted", _interrupted(words), _SIGNALLED + number)
    if isinstance(error, SystemExit):
        return _ended(error)
    if isinstance(error, DpoframeError):
        faults = error.faults if isinstance(error, ConfigError) else ()
        return Failure(kind, str(error), error.exit_code, faults)
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        return Failure("UsageError", _usage(error), 2)
    if message := next(filter(None, map(_machine, _chain(error))), ""):
        return Failure("MachineError", message, 3)
    if isinstance(error, OSError) and error.errno in _MISSING:
        return Failure(kind, f"{os.strerror(error.errno)}: {error.filename}. Check the path.", 2)
    text = str(error).strip().split("\n")[0]
    if where := _plugin_code(error):
        return Failure(kind, f"the plugin code at {where} failed: {kind}: {text} (run again with --debug for the traceback)", 2)
    return Failure(kind, f"internal error: {kind}: {text} (run again with --debug for the traceback)", 1)


def _machine(error: BaseException) -> str:
    """What the machine lacks, where that is what `error` says; else an empty string."""
    if isinstance(error, OSError) and error.errno in _REFUSED:
        what = _REFUSED[error.errno]
        where = f": {error.filename}" if error.filename else ""
        if error.errno in (errno.EACCES, errno.EPERM):  # reading may have been refused as well as writing
            return f"{what}{where}. Change the permissions, or name another place, and run again."
        return f"{what}{where}. Nothing half-written was left as a result; mend that, or write elsewhere, and run again."
    out_of_memory = type(error).__name__ in ("OutOfMemoryError", "OutOfMemory") or "can't allocate memory" in str(error)
    if isinstance(error, MemoryError) or out_of_memory:
        return (
            "The memory does not suffice. Lower trainer.tokens_per_batch, or raise trainer.accumulate_grad_batches: "
            "neither changes the result."
        )
    if any(text in str(error) for text in _DISK_TEXTS):
        return f"A file could not be written, most likely because the disk is full ({_first_line(error)}). Make room and run again."
    return ""


def _usage(error: BaseException) -> str:
    """The message of the command-line parser, with where to read more."""
    message = str(error.format_message()) if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError" and context is not None:
        return f"{context.command_path} needs one of its verbs.\n{message}"
    return f"{message}\nSee: {context.command_path if context is not None else 'dpoframe'} --help"


def _interrupted(words: Sequence[str]) -> str:
    if "train" in words:
        return (
            "Interrupted. What was written stays: run the same command again, and where the run folder was made already with "
            "--resume (and the same --out), to go on from the last checkpoint."
        )
    return "Interrupted. What was written stays; run the same command again to go on."


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, then what caused it, and so on."""
    seen: set[int] = set()
    step: BaseException | None = error
    while step is not None and id(step) not in seen:
        seen.add(id(step))
        yield step
        step = step.__cause__ or step.__context__


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200]


def _ended(error: SystemExit) -> Failure:
    """The verbs end by returning, so it is a plugin or a library that ends the program. Codes of signals are kept."""
    code, where = error.code, _plugin_code(error)
    if isinstance(code, int) and code > _SIGNALLED:
        return Failure("SystemExit", f"Ended with exit code {code}.", code)
    if isinstance(code, str):
        return Failure("SystemExit", code, 1)
    who = f"the plugin code at {where}" if where else "a plugin or a library"
    return Failure("SystemExit", f"{who} ended the program (SystemExit: {code}); --debug shows the traceback", 2 if where else 1)


def _plugin_code(error: BaseException) -> str:
    """File and line of the innermost plugin code that an error passed through; empty where there is none."""
    from dpoframe.plugins import files

    found, trace = "", error.__traceback__
    own = _plugin_packages()
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if module.startswith(f"{files.__name__}.") or module.split(".")[0] in own:
            found = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def _plugin_packages() -> set[str]:
    """Top-level packages of the plugins that the command asked for; none where it asked for none."""
    if "dpoframe.plugins.host" not in sys.modules:
        return set()
    from dpoframe.plugins import host

    names = (str(getattr(plugin.module, "__name__", "")).split(".")[0] for plugin in host().plugins)
    return {name for name in names if name} - {"dpoframe"}


def _settle() -> None:
    """Leaves nothing to be flushed at exit into a pipe whose reader went away, or onto a full disk."""
    for stream in filter(None, (sys.__stdout__, sys.__stderr__)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
