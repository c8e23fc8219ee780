"""The contract of a reporter."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from dpoframe import Reporter, ReporterSession, RunInfo
from dpoframe.testing.contract import PartContract, expect


class ReporterContract(PartContract):
    """What every reporter must hold to. Set `reporter` to an instance that needs no network."""

    kind: ClassVar[str] = "reporter"
    reporter: ClassVar[Reporter]

    def part(self) -> Reporter:
        """The reporter."""
        return self.reporter

    @contextlib.contextmanager
    def run_folder(self) -> Iterator[RunInfo]:
        """A run in a folder of its own, with a model and a report in it."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "model").mkdir()
            (folder / "model" / "weights.bin").write_bytes(b"0" * 64)
            (folder / "report.html").write_text("<p>report</p>")
            yield RunInfo(folder, "contract", {"modality": {"name": "toy"}, "seed": 0}, {"python": "3"})

    def live(self, session: ReporterSession, folder: Path, status: str) -> None:
        """A whole run's calls, numbers that are not finite among them."""
        for step in range(3):
            session.log({"step": step, "epoch": 0, "loss": 0.69 - step / 10, "rewards/margins": 0.1 * step, "stage": "train"})
        session.log({"step": 3, "epoch": 0, "loss": float("nan"), "stage": "validation"})
        session.table("samples", ["prompt", "base", "aligned"], [["Say hi", "well ...", "Hi"], ["ünïcode", "", "🙂"]])
        session.summary({"accuracy": 0.75, "pairs": 40, "finished": True})
        session.artifact("model", "aligned", folder / "model")
        session.artifact("report", "report", folder / "report.html")
        session.finish(status)

    def test_lives_through_a_run(self) -> None:
        """`start` returns a ReporterSession that takes every call of a run without raising.

        If this fails: `start` must return a ReporterSession; rows may hold NaN, text and keys that come later.
        """
        with self.run_folder() as run:
            session = self.reporter.start(run)
            expect(isinstance(session, ReporterSession), f"start returned {session!r}, expected a dpoframe.ReporterSession")
            self.live(session, run.folder, "finished")

    def test_ends_in_every_way(self) -> None:
        """A run that is interrupted or failed, before the first row, can be closed too.

        If this fails: `finish` may come at any time, with `finished`, `interrupted` or `failed`.
        """
        for status in ("interrupted", "failed"):
            with self.run_folder() as run:
                self.reporter.start(run).finish(status)

    def test_runs_do_not_mix(self) -> None:
        """Two runs opened by one reporter have sessions of their own.

        If this fails: keep what a run needs in the session that `start` returns, not in the reporter.
        """
        with self.run_folder() as one, self.run_folder() as two:
            first = self.reporter.start(one)
            self.live(first, one.folder, "finished")
            second = self.reporter.start(two)
            self.live(second, two.folder, "finished")
            expect(first is not second, "start returned the same session for two runs")

    def test_keeps_stdout_clean(self) -> None:
        """Nothing is printed on stdout, which belongs to the command's own document.

        If this fails: use `logging` or stderr.
        """
        said = io.StringIO()
        with self.run_folder() as run, contextlib.redirect_stdout(said):
            self.live(self.reporter.start(run), run.folder, "finished")
        expect(not said.getvalue(), f"printed on stdout: {said.getvalue()!r:.200}")
