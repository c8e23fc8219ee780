"""How well programs are written: what ruff finds, and how many ways there are through them."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from dpoframe import Asset, Available, Evaluator, EvaluatorSpec, Refused, Sample, Scale, UnscoredError
from dpoframe_code.evaluators.example import EXAMPLES
from dpoframe_code.evaluators.running import tried, usable
from dpoframe_code.evaluators.spec import SpecOf
from dpoframe_code.extraction import Extracted, extract
from dpoframe_code.extraction.source import tree_of
from dpoframe_code.problems import problem_of
from dpoframe_code.sandbox import Limits, Status

SELECTED = ("A", "B", "C4", "E", "F", "PERF", "PIE", "PLE", "PLW", "RET", "RUF", "SIM", "UP", "W")
"""Rules that hold for a function as for a file: none on docstrings, annotations, names or imports of a project."""

_PIP = 'pip install "dpoframe-code[quality]"'
_SECONDS = 30.0


@dataclass(frozen=True)
class CodeQuality(Evaluator):
    """Findings of ruff for each line of code, and cyclomatic complexity by radon.

    The program is read, not run. `findings_per_line` is over lines that are not blank. `complexity` is the largest of any of
    its functions (McCabe 1976: 1 for a function without a branch). Answers without a program that is Python have no quality.
    `findings` is their number; comments that would silence them (`# noqa`) have no effect. Kept with every score are the number
    of `lines`, and with `passing` the `tier` of the sandbox.

    Attributes:
        select: Rules of ruff, as its `--select` takes them.
        ignore: Rules that are left out of these.
        line_length: From which on a line is too long.
        passing: Whether programs that fail the tests have no quality either, so that pairs built by it never prefer a program
            that is neat and wrong. They are run for that, in the sandbox, as by `pass_at_k`.
    """

    select: tuple[str, ...] = SELECTED
    ignore: tuple[str, ...] = ("W292",)
    line_length: int = 100
    passing: bool = False

    spec: ClassVar[EvaluatorSpec] = SpecOf(  # type: ignore[assignment]
        EvaluatorSpec(
            "code_quality",
            "0.2.0",
            "response",
            {
                "findings_per_line": Scale(0, None, "findings a line", better="lower"),
                "findings": Scale(0, None, "findings", better="lower"),
                "complexity": Scale(1, None, "paths", better="lower"),
            },
            "findings_per_line",
            carried=("lines", "tier"),
        )
    )

    def own(self, plain: EvaluatorSpec) -> EvaluatorSpec:
        """The spec with the versions that are installed: another ruff finds something else."""
        return replace(plain, assets=_assets())

    def probe(self) -> Available | Refused:
        """Whether ruff and radon are installed, and a sandbox holds where one is needed."""
        missing = [
            name
            for name, there in (("ruff", ruff() is not None), ("radon", importlib.util.find_spec("radon") is not None))
            if not there
        ]
        if not missing:
            return self._rules_hold()
        return Refused(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed", f"Install with: {_PIP}")

    def _rules_hold(self) -> Available | Refused:
        """Whether ruff knows the rules."""
        try:
            self.findings("")
        except UnscoredError as error:
            return Refused(str(error), "Name rules that `ruff rule --all` lists.")
        return usable() if self.passing else Available()

    def score(self, sample: Sample) -> Mapping[str, float] | None:
        """Both figures, None where the sample carries no problem or holds no program that is Python."""
        found, tier = self._program(sample)
        if found is None:
            return None
        lines = sum(bool(line.strip()) for line in found.program.splitlines())
        if not found.compiles or not lines:
            return None
        findings = self.findings(found.program)
        counts = {"findings": float(findings), "lines": float(lines), **tier}
        return {"findings_per_line": findings / lines, **complexity(found.program), **counts}

    def _program(self, sample: Sample) -> tuple[Extracted | None, dict[str, float]]:
        """The program in an answer; with `passing`, only one that passes, and the tier it passed in."""
        if self.passing:
            run = tried(sample, Limits())
            passed = run is not None and run.outcome.status is Status.PASSED
            return (run.extracted, {"tier": run.tier}) if run is not None and passed else (None, {})
        problem = problem_of(sample)
        if problem is None or not isinstance(sample.response, str):
            return None, {}
        return extract(sample.response, problem.entry_point, problem.starter, base=isinstance(sample.prompt, str)), {}

    def findings(self, program: str) -> int:
        """How much ruff finds in a program.

        Raises:
            UnscoredError: ruff is gone, hangs, or says something unexpected.
        """
        command = [
            str(ruff()),
            "check",
            "--isolated",
            "--no-cache",
            "--ignore-noqa",
            "--exit-zero",
            "--output-format=json",
            "--target-version=py311",
        ]
        command += [f"--select={','.join(self.select)}", f"--line-length={self.line_length}", "--stdin-filename=program.py"]
        command += [f"--ignore={','.join(self.ignore)}"] if self.ignore else []
        try:
            done = subprocess.run([*command, "-"], input=_bytes(program), capture_output=True, timeout=_SECONDS, check=True)
            return len(json.loads(done.stdout))
        except subprocess.CalledProcessError as error:
            said = " ".join(error.stderr.decode("utf-8", "replace").split())
            raise UnscoredError(f"ruff failed: {said[:300]}") from error
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise UnscoredError(f"ruff gave no findings: {type(error).__name__}: {error}") from error

    @classmethod
    def example_samples(cls) -> list[Sample]:
        """What `dpoframe plugins check` scores."""
        return list(EXAMPLES)


def complexity(program: str) -> dict[str, float]:
    """The largest cyclomatic complexity of a program's functions by name of the figure; none where it has no function."""
    from radon.complexity import cc_visit_ast  # type: ignore[import-untyped]

    tree = tree_of(program)
    try:
        found = [block.complexity for block in cc_visit_ast(tree)]
    except RecursionError as error:
        raise UnscoredError("the program is nested too deeply for its complexity to be counted") from error
    return {"complexity": float(max(found))} if found else {}


@functools.cache
def ruff() -> Path | None:
    """The program `ruff`: that of this environment's wheel, else one on PATH."""
    beside = Path(sysconfig.get_path("scripts"), "ruff")
    found = str(beside) if beside.is_file() else shutil.which("ruff")
    return Path(found) if found else None


@functools.cache
def _assets() -> tuple[Asset, ...]:
    """The two programs by their versions; what is not installed is left out."""
    found = []
    if ruff() is not None:
        said = (
            subprocess.run([str(ruff()), "--version"], capture_output=True, check=False, timeout=_SECONDS).stdout.decode().strip()
        )
        found.append(Asset(said or "ruff", _digest(said), "MIT"))
    if importlib.util.find_spec("radon") is not None:
        name = f"radon {importlib.metadata.version('radon')}"
        found.append(Asset(name, _digest(name), "MIT"))
    return tuple(found)


def _digest(text: str) -> str:
    """Of the version: the bytes differ from one machine's build to another's, the findings do not."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _bytes(program: str) -> bytes:
    return program.encode("utf-8", "replace")
