"""ROUGE over many pairs: the evaluator `rouge`, as the harness asks it, against `rouge-score` called in a loop.

usage: rouge.py [--pairs 10000] [--data FILE]

Both sides score the same pairs with the same settings (stemmed, sentences in lines) in one process, one after the other, and
must give the same numbers. FILE is SummEval as JSON Lines: `references` and `outputs[].summary` a row.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpoframe_summarization.evaluators.rouge import Rouge, crew_of
from dpoframe_summarization.evaluators.rouge_crew import cores
from dpoframe_summarization.evaluators.rouge_scoring import TYPES, Settings
from rouge_score.rouge_scorer import RougeScorer

from dpoframe.harness.phases.limits import score_all
from dpoframe.harness.storage.folder import Row

DATA = Path(__file__).parents[2] / "shared" / "data" / "summarization" / "summeval_100x16.jsonl"


def pairs(file: Path, count: int) -> list[tuple[str, str]]:
    """References with summaries, sentences in lines: every reference of an article with each of its summaries."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    found = [
        (reference.replace(" . ", " .\n"), one["summary"].replace(" . ", " .\n"))
        for row in rows
        for reference in row["references"]
        for one in row["outputs"]
    ]
    return list(itertools.islice(itertools.cycle(found), count))


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it returns, wall seconds, and CPU seconds with those of processes that ended meanwhile."""
    start, used = time.perf_counter(), spent()
    return work(), time.perf_counter() - start, spent() - used


def spent() -> float:
    """CPU seconds of this process and of its children that ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)


def plain(given: list[tuple[str, str]]) -> list[list[float]]:
    """The loop."""
    scorer = RougeScorer(list(TYPES), use_stemmer=True)
    found = (scorer.score(reference, summary) for reference, summary in given)
    return [[one[kind].fmeasure for kind in TYPES] for one in found]


def ours(given: list[tuple[str, str]]) -> list[list[float]]:
    """The evaluator, through the harness."""
    rows = [Row("", str(n), "", summary, meta={"reference": reference}) for n, (reference, summary) in enumerate(given)]
    found = [[one.values[kind] for kind in TYPES] for one in score_all(Rouge(sentences="lines"), rows) if one.values is not None]
    crew_of(Settings(stemmer=True, rule=False, unicode=False)).dismiss()  # so that its CPU time is known
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    given = pairs(options.data, options.pairs)
    plain(given[:5])
    mine, seconds, cpu = timed(lambda: ours(given))
    loop, loop_seconds, loop_cpu = timed(lambda: plain(given))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(given)} pairs, {cores()} cores, peak {peak:.0f} MiB, start of the workers counted")
    print(
        f"rouge-score in a loop  {loop_seconds:7.2f} s wall  {loop_cpu:7.2f} s CPU  {1e3 * loop_seconds / len(given):.3f} ms a pair"
    )
    print(f"evaluator `rouge`      {seconds:7.2f} s wall  {cpu:7.2f} s CPU  {1e3 * seconds / len(given):.3f} ms a pair")
    off = max(abs(a - b) for one, other in zip(mine, loop, strict=True) for a, b in zip(one, other, strict=True))
    print(f"{loop_seconds / seconds:.2f} times as fast, {loop_cpu / cpu:.2f} by CPU; largest difference of a figure {off:.1e}")


if __name__ == "__main__":
    main()
