"""A modality whose answers and scores depend on what shares a batch, and a suite for it; run by processes that tests start.

Real models do so in the last digits of float sums. Here it is plain to see, so that a test can tell whether the batches of an
unbroken run are kept by one that was cut off, or spread over processes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dpoframe import Measure, Request, Sample, Scores
from dpoframe.harness import Subject, load_suite, run_suite
from dpoframe.testing.toy import ToyModality
from dpoframe.types import Example, as_text, content_digest

FILES = ("manifest.json", "results.json", "samples.jsonl", "pairs.jsonl", "scores.jsonl", "samples.parquet")

SUITE = """
name: grouped
version: 1
prompts: [{prompts}]
pairs: {{name: "{here}:pairs", count: 30}}
generation: {{max_new_tokens: 8, temperature: 1.0}}
samples: 2
evaluators: [response_length, finished, base_logp, distinct_n, preference_accuracy, reward_margin]
"""


@dataclass(frozen=True)
class Grouped(ToyModality):
    """The toy; each answer names its batch, and each score holds a trace of it. `pause` seconds pass for every answer."""

    generation_batch: int = 4
    pause: float = 0.0

    def generate(self, model: Any, requests: Sequence[Request]) -> Iterator[Sample]:
        """Batches of `generation_batch`, as they come."""
        for start in range(0, len(requests), self.generation_batch):
            batch = requests[start : start + self.generation_batch]
            trace = content_digest("".join(request.id for request in batch))[:6]
            for sample in super().generate(model, batch):
                time.sleep(self.pause)
                yield replace(sample, response=f"{as_text(sample.response)} {trace}")

    def score(self, model: Any, batch: Mapping[str, Any]) -> Scores:
        """The toy's, moved by the batch's sum."""
        time.sleep(self.pause)
        found = super().score(model, batch)
        return Scores(found.value + found.value.sum() * 1e-4, found.length)

    def measure(self, example: Example) -> Measure:
        """Long enough that a suite makes several batches."""
        return replace(super().measure(example), prompt=100 + len(as_text(example.prompt)), response=100)

    def fingerprint(self) -> dict[str, Any]:
        """What decides a score: not how long it takes."""
        return {name: value for name, value in super().fingerprint().items() if name not in ("pause", "generation_batch")}


def pairs(count: int) -> Any:
    """Pairs of the toy, by a name that any process can look up."""
    from dpoframe.testing.toy import toy_pairs

    return toy_pairs(count)


def write_suite(folder: Path, prompts: int = 24) -> Path:
    """The suite's file."""
    file = folder / "grouped.yaml"
    names = ", ".join(f"say {chr(97 + number % 26)}{'x' * (number % 7)} {number}" for number in range(prompts))
    file.write_text(SUITE.format(prompts=names, here=__file__), encoding="utf-8")
    return file


def evaluate(suite: Path, out: Path) -> None:
    """Evaluates one toy against another."""
    torch.set_num_threads(1)
    modality, other = Grouped(pause=0.006), Grouped(init_seed=1, pause=0.006)
    subject, base = Subject("aligned", modality, modality.build()), Subject("base", other, other.build())
    run_suite(subject, load_suite(suite), out, base=base)
