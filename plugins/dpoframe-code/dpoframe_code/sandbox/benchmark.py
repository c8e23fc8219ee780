"""How long a program takes: `python -m dpoframe_code.sandbox.benchmark [programs]`.

The tiers of the sandbox, warm, beside two ways that protect nothing: `exec` in a fork of this process, and a fresh
interpreter. All in one run, interleaved, because a machine is never equally busy for long.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from dpoframe_code.sandbox import Call, Sandbox, Tier, probe

PROGRAM = "def double(x):\n    return 2 * x\n"
_ROUNDS = 200


def fork() -> None:
    """The program in a fork of this process, unprotected; its answer is the exit code."""
    pid = os.fork()
    if pid == 0:
        namespace: dict[str, Callable[[int], int]] = {}
        exec(PROGRAM, namespace)
        os._exit(namespace["double"](21))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42


def interpreter() -> None:
    """The program in a fresh interpreter, unprotected."""
    command = [sys.executable, "-I", "-c", PROGRAM + "print(double(21))"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"42\n"


def within(sandbox: Sandbox) -> Callable[[], None]:
    """The program in a sandbox."""

    def once() -> None:
        assert sandbox.run(PROGRAM, [Call("double", (21,))])[0].value == 42

    return once


def measured(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each way, one after the other in each round."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            times[name].append(1000 * (time.perf_counter() - begin))
    return times


def main(rounds: int = _ROUNDS) -> None:
    """Prints a table of milliseconds."""
    with contextlib.ExitStack() as stack:
        tiers = [tier for tier in Tier if probe(tier).tier]
        ways = {str(tier): within(stack.enter_context(Sandbox(tier=tier))) for tier in tiers}
        times = measured({**ways, "exec in a fork, unprotected": fork, "fresh interpreter, unprotected": interpreter}, rounds)
        load = os.getloadavg()[0]
    lines = [f"{'milliseconds a program':40} median   90 %    99 %"]
    for name, each in times.items():
        cuts = statistics.quantiles(each, n=100)
        lines.append(f"{name:40} {statistics.median(each):6.1f} {cuts[89]:6.1f} {cuts[98]:7.1f}")
    lines.append(f"{rounds} rounds, {len(os.sched_getaffinity(0))} processors, load {load:.1f}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m dpoframe_code.sandbox.benchmark", description=main.__doc__)
    parser.add_argument("rounds", nargs="?", type=int, default=_ROUNDS, help="programs each way (%(default)s unless given)")
    main(parser.parse_args().rounds)
