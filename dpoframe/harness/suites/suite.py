"""A benchmark suite: which prompts, how answers are made, which evaluators read them. Written in YAML, read strictly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dpoframe.evaluator import Available, Evaluator, Refused
from dpoframe.harness.backends import Backend, Native
from dpoframe.harness.suites.framing import Framing
from dpoframe.types import Content, PreferencePair, Request, content_digest

if TYPE_CHECKING:
    from dpoframe.harness.result import SuiteResult
    from dpoframe.harness.subject import Progress, Subject


@dataclass(frozen=True)
class Prompt:
    """One prompt of a suite; `meta` is what its row says besides (an expected answer, a category, a `reference`)."""

    id: str
    content: Content
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """A suite that is ready to run.

    Attributes:
        name: The suite's name, and that of its folder.
        version: Changed by its author whenever results of the old and the new would not compare.
        description: What it measures, in a sentence.
        prompts: What the model is asked, as the rows have it; may be empty where there are pairs.
        pairs: Held-out pairs that the model scores; may be empty.
        generation: Settings handed to `Modality.generate` with every request.
        samples: Answers a prompt.
        seed: Every request's seed is a digest of this, the prompt's id and the sample's number.
        evaluators: The measurements, in the order of the report.
        framing: The system prompt and the worked examples that go before every prompt.
        backend: What writes the answers; the model itself unless the suite says otherwise.
        source: The name or file it was loaded from; no figure depends on it.
        changes: What was set of its evaluators when it was loaded, each `evaluators.key=value`; already in `evaluators`.
    """

    name: str
    version: str
    description: str
    prompts: tuple[Prompt, ...]
    pairs: tuple[PreferencePair, ...]
    generation: Mapping[str, Any]
    samples: int
    seed: int
    evaluators: tuple[Evaluator, ...]
    framing: Framing = field(default_factory=Framing)
    backend: Backend = field(default_factory=Native)
    source: str = ""
    changes: tuple[str, ...] = ()

    @property
    def runs_itself(self) -> bool:
        """Whether `run` does the work, in place of the harness's own phases."""
        return False

    def run(self, subject: Subject, out: Path, *, base: Subject | None = None, progress: Progress | None = None) -> SuiteResult:
        """Evaluates `subject` into the folder `out`, for suites that are run by another harness."""
        raise NotImplementedError

    def probe(self) -> Available | Refused:
        """Whether what the suite itself relies on is there; evaluators and backend are asked on their own."""
        return Available()

    def requirements(self) -> list[str]:
        """What it relies on, in words, besides what evaluators and backend name."""
        return []

    def figures(self) -> dict[str, Literal["higher", "lower"] | None]:
        """The figures that the suite gives, by their names in results.json, and which way each is better."""
        found: dict[str, Literal["higher", "lower"] | None] = {}
        for one in self.evaluators:
            spec = one.spec
            for name, scale in {**spec.metrics, **spec.aggregates}.items():
                found[spec.id if name == spec.primary else f"{spec.id}/{name}"] = scale.better
        return found

    def requests(self) -> list[Request]:
        """One request a prompt and sample; the id is the prompt's id, `#` and the sample's number."""
        from dpoframe.rng import seed_of

        return [
            Request(f"{prompt.id}#{number}", content, seed_of(self.seed, prompt.id, number), self.generation)
            for prompt in self.prompts
            for content in [self.framing.of(prompt.content, prompt.id)]
            for number in range(self.samples)
        ]

    def limited(self, count: int) -> Suite:
        """The suite with its first `count` prompts and pairs alone; its digest is another."""
        return replace(self, prompts=self.prompts[:count], pairs=self.pairs[:count])

    def digest(self) -> str:
        """Digest of everything that decides the suite's numbers, but the model."""
        rows = [[prompt.id, content_digest(prompt.content), dict(prompt.meta)] for prompt in self.prompts]
        parts = {
            "name": self.name,
            "version": self.version,
            "prompts": rows,
            "pairs": [[pair.id, content_digest(pair.prompt, pair.chosen, pair.rejected)] for pair in self.pairs],
            "generation": dict(self.generation),
            "samples": self.samples,
            "seed": self.seed,
            "evaluators": [
                [one.spec.id, one.spec.version, repr(one), sorted([asset.name, asset.digest] for asset in one.spec.assets)]
                for one in self.evaluators
            ],
            "framing": self.framing.digest(),
            "backend": self.backend.described(),
        }
        return digest_of(parts)


def digest_of(parts: Mapping[str, Any]) -> str:
    """Hex digest of plain values, the same in any process."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()
