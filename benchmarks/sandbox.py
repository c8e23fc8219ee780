#!/usr/bin/env python3
"""The sandbox for generated code: milliseconds a program in each tier, and a whole pass of HumanEval, beside no sandbox at all.

    python3 benchmarks/sandbox.py [HumanEval.jsonl.gz] [--programs 500] [--passes 5]

Needs dpoframe-code. Without the file of HumanEval only the small program is timed. Nothing of it is part of this repository:
curl -LO https://github.com/openai/human-eval/raw/master/data/HumanEval.jsonl.gz

`exec in a fork` and `fresh interpreter` protect nothing, and their tests stand in the program's own process, as in the harnesses
in use: they are there to compare with. All ways take turns in one run. A pass of HumanEval judges its 164 own solutions, as many
at a time as there are processors, from the text of the problems on.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dpoframe_code.problems import Problem, oracle_of, read_problems
from dpoframe_code.sandbox import Sandbox, Status, Tier, probe
from dpoframe_code.sandbox.benchmark import fork, interpreter, measured, within

FORK, FRESH = "`exec` in a fork, unprotected", "fresh interpreter, unprotected"
AT_ONCE = len(os.sched_getaffinity(0))

Way = Callable[[], None]


def main() -> None:
    """Reads the command line and prints tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("humaneval", nargs="?", type=Path)
    parser.add_argument("--programs", type=int, default=500)
    parser.add_argument("--passes", type=int, default=5)
    options = parser.parse_args()
    before = os.getloadavg()[0]
    with contextlib.ExitStack() as stack:
        tiers = {str(tier): stack.enter_context(Sandbox(tier=tier)) for tier in Tier if probe(tier).tier}
        if not tiers:
            sys.exit(str(probe()))
        small = {**{name: within(one) for name, one in tiers.items()}, FORK: fork, FRESH: interpreter}
        told(f"Milliseconds a small program, {options.programs} each", measured(small, options.programs), 1.0)
        if options.humaneval is not None:
            problems = [one for one in read_problems(options.humaneval) if isinstance(one, Problem)]
            whole: dict[str, Way] = {name: judged(one, problems) for name, one in tiers.items()}
            whole |= {FORK: forked(problems), FRESH: interpreted(problems)}
            title = f"Seconds for the {len(problems)} solutions of HumanEval, {options.passes} passes"
            told(title, measured(whole, options.passes), 0.001)
    print(f"\n{AT_ONCE} processors; load {before:.1f} before, {os.getloadavg()[0]:.1f} after")


def told(title: str, times: dict[str, list[float]], unit: float) -> None:
    """A table of medians with the lowest and highest, and of the ratios to a fork in the same round."""
    print(f"\n{title}\n\n| | median [lowest, highest] | / {FORK.partition(',')[0]} |\n|---|---|---|")
    for name, each in times.items():
        middle, low, high = (which(each) * unit for which in (statistics.median, min, max))
        ratio = statistics.median(one / other for one, other in zip(each, times[FORK], strict=True))
        print(f"| {name} | {middle:.1f} [{low:.1f}, {high:.1f}] | {ratio:.2f} |")


def judged(sandbox: Sandbox, problems: Sequence[Problem]) -> Way:
    """A pass in a sandbox, the tests outside of the program's process."""

    def once() -> None:
        found = list(sandbox.map(lambda one: oracle_of(one, sandbox).judge(sandbox, one.solution), problems))
        assert all(outcome.status is Status.PASSED for outcome in found)

    return once


def source_of(problem: Problem) -> str:
    """Solution and tests as one program."""
    return f"{problem.solution}\n\n{problem.tests}\n\ncheck({problem.entry_point})\n"


def forked(problems: Sequence[Problem]) -> Way:
    """A pass in forks of this process."""

    def begun(problem: Problem) -> None:
        if os.fork() == 0:
            with contextlib.suppress(BaseException):
                exec(source_of(problem), {})
                os._exit(0)
            os._exit(1)

    def once() -> None:
        for number, problem in enumerate(problems):
            if number >= AT_ONCE:
                ended()
            begun(problem)
        for _ in problems[:AT_ONCE]:
            ended()

    def ended() -> None:
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0

    return once


def interpreted(problems: Sequence[Problem]) -> Way:
    """A pass in fresh interpreters."""

    def once() -> None:
        running: list[subprocess.Popen[bytes]] = []
        for problem in problems:
            if len(running) == AT_ONCE:
                assert running.pop(0).wait() == 0
            running.append(subprocess.Popen([sys.executable, "-I", "-c", source_of(problem)], stdout=subprocess.DEVNULL))
        assert all(one.wait() == 0 for one in running)

    return once


if __name__ == "__main__":
    main()
