"""Where the command and its workers read what the others have to say: progress, errors, the result, and a request to end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from dpoframe.launching.job import RayRun, WorkerError


@dataclass(frozen=True)
class Notes:
    """What stands on the board.

    Attributes:
        tries: How often workers were started.
        stage: What is being done, and how much of how much of it is.
        error: The last error of a worker of this try; one that is final stays.
        result: How the run ended.
    """

    tries: int = 0
    stage: tuple[str, int, int] = ("", 0, 0)
    error: WorkerError | None = None
    result: RayRun | None = None


class Board:
    """An actor: it lives in a process of its own, which the loss of a worker does not touch."""

    def __init__(self) -> None:
        self.notes = Notes()
        self.requested = 0
        self.request = asyncio.Event()

    async def begin(self) -> tuple[int, bool]:
        """Called by the first worker of each try: the number of the try, and whether there is something left to do."""
        over = self.notes.result is not None or (self.notes.error is not None and self.notes.error.final)
        error = self.notes.error if over else None
        self.notes = replace(self.notes, tries=self.notes.tries + 1, error=error)
        return self.notes.tries, not over

    async def tell(self, stage: str, done: int, total: int) -> None:
        """Progress."""
        self.notes = replace(self.notes, stage=(stage, done, total))

    async def fail(self, error: WorkerError) -> None:
        """A worker's error. One that is final is not replaced: those after it follow from it."""
        if self.notes.error is None or not self.notes.error.final:
            self.notes = replace(self.notes, error=error)

    async def conclude(self, result: RayRun) -> None:
        """The run has ended well, or was interrupted."""
        self.notes = replace(self.notes, result=replace(result, tries=self.notes.tries))

    async def interrupt(self, number: int) -> None:
        """Asks the run to end after its step in hand."""
        self.requested = number
        self.request.set()

    async def interruption(self) -> int:
        """Returns when the run is asked to end: the number of the signal."""
        await self.request.wait()
        return self.requested

    async def read(self) -> Notes:
        """What stands here."""
        return self.notes
