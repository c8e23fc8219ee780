"""Shares ROUGE out over the cores: this process and one worker process for each further core.

They are programs of their own, not forks: a fork of a process with threads, such as one that holds a model, may hang, and
`multiprocessing` would import the caller's main module again. A worker takes two seconds to start, so it is started when as much
work was done without it, and gets its first share when it is ready: work that ends before never waits for it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from dpoframe import UnscoredError
from dpoframe_summarization.evaluators.rouge_scoring import Job, Settings, rouge_of

Figures: TypeAlias = list[list[float]]

_CHUNK = 32
_WORTH = 2.0  # seconds of work after which workers are started
_MODULE = "dpoframe_summarization.evaluators.rouge_scoring"


def cores() -> int:
    """Cores that this process may use; ranks of one machine share them."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, there // max(1, int(ranks) if ranks.isdigit() else 1))


class Crew:
    """This process and its workers, which are started when the work proves large and end with `dismiss` or the process."""

    def __init__(self, settings: Settings, size: int, worth: float = _WORTH) -> None:
        self._settings, self._size, self._worth = settings, size, worth
        self._workers: list[_Worker] = []
        self._spent = 0.0

    def figures(self, jobs: Sequence[Job]) -> Figures:
        """The figures of each job, in order.

        Raises:
            UnscoredError: a worker ended before its time.
        """
        start = time.monotonic()
        if self._size > 1 and self._spent >= self._worth and not self._workers:
            self._workers = [_Worker(self._settings) for _ in range(self._size - 1)]
        work = _Work(jobs)
        threads = [threading.Thread(target=work.pull, args=(one.ask,), daemon=True) for one in self._workers if one.ready.is_set()]
        try:
            for thread in threads:
                thread.start()
            work.pull(lambda some: rouge_of(self._settings, some))
            for thread in threads:
                thread.join()
        except BaseException:
            self.dismiss()
            raise
        self._spent += time.monotonic() - start
        if work.failed:
            self.dismiss()
            raise UnscoredError("a process that computes ROUGE ended before its time: the machine may lack memory", again=True)
        return [one for place in sorted(work.found) for one in work.found[place]]

    def dismiss(self) -> None:
        """Ends the workers."""
        for one in self._workers:
            one.end()
        self._workers = []
        self._spent = 0.0


class _Work:
    """Jobs in chunks, which whoever is free takes."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.found: dict[int, Figures] = {}
        self.failed = False
        self._open: queue.SimpleQueue[tuple[int, Sequence[Job]]] = queue.SimpleQueue()
        for start in range(0, len(jobs), _CHUNK):
            self._open.put((start, jobs[start : start + _CHUNK]))

    def pull(self, score: Callable[[Sequence[Job]], Figures]) -> None:
        """Takes chunks until there are none."""
        with contextlib.suppress(queue.Empty):
            while not self.failed:
                start, some = self._open.get_nowait()
                try:
                    self.found[start] = score(some)
                except (OSError, ValueError):
                    self.failed = True


class _Worker:
    """One process that scores what it is sent.

    Attributes:
        ready: Set when it has loaded what it needs, or has ended.
    """

    def __init__(self, settings: Settings) -> None:
        path = os.pathsep.join(one for one in sys.path if one)
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, settings.text()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
            encoding="ascii",
        )
        self.ready = threading.Event()
        threading.Thread(target=self._await, daemon=True).start()
        atexit.register(self.end)

    def _await(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdout.readline()
        self.ready.set()

    def ask(self, jobs: Sequence[Job]) -> Figures:
        """The figures; OSError or ValueError where the process is gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(jobs) + "\n")
        self._process.stdin.flush()
        found: Figures = json.loads(self._process.stdout.readline())
        return found

    def end(self) -> None:
        """Stops the process at once: it holds nothing that could be lost."""
        atexit.unregister(self.end)
        self._process.kill()
        self.ready.wait()
        with contextlib.suppress(OSError):
            self._process.communicate()
