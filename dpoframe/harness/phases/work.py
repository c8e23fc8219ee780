"""One evaluation under way: what the phases share."""

from __future__ import annotations

from dataclasses import dataclass

from dpoframe.harness.sharding import ALONE, Ranks
from dpoframe.harness.storage.folder import EvalFolder
from dpoframe.harness.storage.store import Store, files_of
from dpoframe.harness.subject import Progress, silent
from dpoframe.harness.suites.suite import Suite


@dataclass(frozen=True)
class Work:
    """The suite, where its results go, and which process this is."""

    suite: Suite
    folder: EvalFolder
    store: Store
    ranks: Ranks = ALONE
    progress: Progress = silent

    def gather(self) -> None:
        """Returns when what all processes have written lies in the first one's file, where every process reads it."""
        gather(self.store, self.ranks)

    def needs(self, *needs: str) -> bool:
        """Whether an evaluator of the suite needs one of these."""
        return any(one.spec.needs in needs for one in self.suite.evaluators)


def gather(store: Store, ranks: Ranks) -> None:
    """Returns when what all processes have written lies in the first one's file, where every process reads it."""
    ranks.wait()
    if ranks.first and ranks.count > 1:
        store.take_in(files_of(store.folder)[1:])
    ranks.wait()


@dataclass
class Telling:
    """Progress of one stage of this process's share."""

    progress: Progress
    stage: str
    total: int
    done: int = 0

    def more(self, count: int) -> None:
        """Says that `count` more are done."""
        self.done += count
        self.progress(self.stage, self.done, self.total)
