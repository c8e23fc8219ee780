"""The sandbox: programs in, outcomes out."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from dpoframe import MachineError
from dpoframe_code.sandbox.call import Call
from dpoframe_code.sandbox.launch import launch
from dpoframe_code.sandbox.limits import Limits
from dpoframe_code.sandbox.machine import started
from dpoframe_code.sandbox.outcome import Outcome, Status
from dpoframe_code.sandbox.program import Asked, Program
from dpoframe_code.sandbox.tier import Tier
from dpoframe_code.sandbox.warm import StartError, WarmZygote, ZygoteError
from dpoframe_code.sandbox.wire import WireError, encode, frame

T = TypeVar("T")
R = TypeVar("R")
UNENDED = "the tests: "
"""How the error begins of tests that got all their answers and came to no end."""

_TRIES = 3
_ROOM = 1000


class _LostError(Exception):
    """The program that tests ask has gone with its zygote: both are begun again, not the tests alone."""


class Sandbox:
    """A warm sandbox, to be used in a `with`. Programs may run in it from several threads at a time.

    It starts in the strongest tier that this machine has, after canary attacks of every kind have failed in it, and refuses
    where there is none. What stops a program, and what does not, stands in THREATS.md beside this module.

    Args:
        limits: What a program may use, where nothing else is said.
        tier: Insists on one tier; None takes the strongest.
        folders: Folders that programs may import from and read, such as one with numpy in it.

    Raises:
        MachineError: (on entering) Neither tier can be had here; the message says what is missing and how to get it.
    """

    def __init__(self, limits: Limits | None = None, *, tier: Tier | None = None, folders: Sequence[Path] = ()) -> None:
        self._limits = limits or Limits()
        self._wanted = tier
        self._folders = [Path(folder).resolve() for folder in folders]
        self._starting = threading.Lock()
        self._zygote: WarmZygote | None = None
        self._tier: Tier | None = None

    def __enter__(self) -> Self:
        self._zygote, self._tier = started(self._wanted, self._folders)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            zygote.close()

    @property
    def tier(self) -> Tier:
        """The locks that hold here."""
        if self._tier is None:
            raise MachineError("The sandbox has not been entered. Use it as `with Sandbox() as sandbox:`.")
        return self._tier

    def run(self, program: str, calls: Sequence[Call], limits: Limits | None = None) -> list[Outcome]:
        """Loads a program in a fresh child and asks it for the calls, in order.

        After a call that ends the program (see `Status.fatal`) the later ones have its status and say that they were not
        reached. What a program changes in its own modules is seen by its later calls, and by nothing else.

        Args:
            program: Python source.
            calls: Calls of what the program defines.
            limits: In place of the sandbox's own.

        Returns:
            One outcome a call. Without calls, none: use `load` to see whether a program loads.

        Raises:
            WireError: An argument of a call is not plain data.
        """

        def work(child: Program) -> list[Outcome]:
            loaded = child.load(program)
            return [child.call(call) for call in calls] if loaded.status is Status.RETURNED else [loaded] * len(calls)

        return self._within(limits, work, max(1, len(calls)))[: len(calls)]

    def load(self, program: str, limits: Limits | None = None) -> Outcome:
        """Loads a program and asks it nothing."""
        return self._within(limits, lambda child: [child.load(program)], 1)[0]

    def run_all(
        self, jobs: Iterable[tuple[str, Sequence[Call]]], limits: Limits | None = None, *, workers: int | None = None
    ) -> Iterator[list[Outcome]]:
        """The outcomes of many programs, in their order, several at a time.

        Args:
            jobs: Programs and their calls, taken as they are needed.
            limits: In place of the sandbox's own.
            workers: Programs at a time; None is one for each processor.
        """
        return self.map(lambda job: self.run(job[0], job[1], limits), jobs, workers=workers)

    def map(self, function: Callable[[T], R], jobs: Iterable[T], *, workers: int | None = None) -> Iterator[R]:
        """`function` of each job, in order, several at a time and no more jobs taken than are needed for that."""
        count = workers or len(os.sched_getaffinity(0))
        waiting: list[Future[R]] = []
        with ThreadPoolExecutor(count) as pool:
            for job in jobs:
                waiting.append(pool.submit(function, job))
                if len(waiting) > 2 * count:
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()

    def judge(self, program: str, tests: str, function: str, asks: Sequence[str], limits: Limits | None = None) -> Outcome:
        """Runs tests that are a script, in a second locked child, against a program in its own.

        In the script each name of `asks` is a function that goes out to the program of that name and comes back with its
        answer as plain data. Script and program never share a process, so that a program can only answer.

        Args:
            program: Python source to be judged.
            tests: Python source of the tests.
            function: The function of `tests` that is called, without arguments; it raises where the program is wrong.
            asks: Names that the program defines and the script uses.
            limits: Of each of the two, in place of the sandbox's own.

        Returns:
            `passed`; `wrong` where the script raised; how the program ended where it could not answer; `infra_error` where
            the script itself is broken, ran out of its limits, or asked nothing.
        """

        def work(child: Program) -> list[Outcome]:
            loaded = child.load(program)
            if loaded.status is not Status.RETURNED:
                return [loaded]
            answers: list[Outcome] = []

            def asked(name: str, args: tuple[object, ...], kwargs: dict[str, object]) -> Outcome:
                try:
                    answers.append(sendable(child.call(Call(name, args, kwargs))))
                except ZygoteError as error:
                    raise _LostError(str(error)) from error
                return answers[-1]

            def ask(tester: Program) -> list[Outcome]:
                begun = tester.load(tests, asks)
                return [tester.call(Call(function)) if begun.status is Status.RETURNED else begun]

            try:
                return [verdict(self._within(limits, ask, 1, asked)[0], answers)]
            except _LostError as lost:
                raise ZygoteError(str(lost)) from lost

        return self._within(limits, work, 1)[0]

    def _within(
        self, limits: Limits | None, work: Callable[[Program], list[Outcome]], count: int, asked: Asked | None = None
    ) -> list[Outcome]:
        """`work` with a child, again where the zygote died meanwhile, and `count` infra errors where that helps nothing."""
        error: Exception = ZygoteError("never started")
        for _ in range(_TRIES):
            try:
                return self._once(limits, work, asked)
            except (ZygoteError, StartError, OSError) as failure:
                error = failure
        return [Outcome(Status.INFRA_ERROR, self._tier, error=f"{type(error).__name__}: {error}")] * count

    def _once(self, limits: Limits | None, work: Callable[[Program], list[Outcome]], asked: Asked | None) -> list[Outcome]:
        zygote = self._living()
        try:
            child = Program(zygote, self.tier, limits or self._limits, asked)
            try:
                outcomes = work(child)
            finally:
                cpu, output = child.end()
        except ZygoteError:
            zygote.broken = True
            raise
        return [replace(outcome, cpu_seconds=cpu, output=output) for outcome in outcomes]

    def _living(self) -> WarmZygote:
        """The zygote; a new one where it has died, or where this process was forked from the one that started it."""
        with self._starting:
            if self._zygote is None:
                raise MachineError("The sandbox has not been entered, or was left. Use it as `with Sandbox() as sandbox:`.")
            if not self._zygote.alive:
                self._zygote.close()
                self._zygote = WarmZygote(launch(self.tier, self._folders))
            return self._zygote


def sendable(answer: Outcome) -> Outcome:
    """The answer, unless a forged one is of a size that cannot go on to the tests: that is the program's doing, not theirs."""
    try:
        frame({"value": encode(answer.value), "room": " " * _ROOM})
    except WireError as error:
        return replace(answer, status=Status.UNENCODABLE, value=None, error=str(error))
    return answer


def verdict(tests: Outcome, answers: Sequence[Outcome]) -> Outcome:
    """What tests that are a script say of a program, by how the script ended and what the program had answered."""
    if tests.status is Status.INFRA_ERROR:
        return tests
    if not answers:
        return replace(tests, status=Status.INFRA_ERROR, value=None, error=f"the tests asked nothing: {tests.status} {tests.error}")
    # The script's answer is of no interest, so neither is whether it can be encoded.
    if tests.status in (Status.RETURNED, Status.UNENCODABLE):
        return replace(tests, status=Status.PASSED, value=None, error="")
    failures = [answer for answer in answers if answer.status is not Status.RETURNED]
    if failures:
        return failures[0]
    if tests.status is Status.RAISED:
        return replace(tests, status=Status.WRONG)
    return replace(tests, status=Status.INFRA_ERROR, error=f"{UNENDED}{tests.status} {tests.error}")


_shared: list[Sandbox] = []
_sharing = threading.Lock()


def run(program: str, calls: Sequence[Call], limits: Limits | None = None) -> list[Outcome]:
    """Runs one program in a sandbox that stays warm until this process ends; see `Sandbox.run`.

    Raises:
        MachineError: This machine has no locks that hold; the message says what is missing and how to get it.
    """
    with _sharing:
        if not _shared:
            _shared.append(Sandbox().__enter__())
            atexit.register(_shared[0].__exit__, None, None, None)
    return _shared[0].run(program, calls, limits)
