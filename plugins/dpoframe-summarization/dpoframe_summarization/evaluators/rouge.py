"""ROUGE: overlap of a summary with a good one."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import regex  # type: ignore[import-untyped]

from dpoframe import Evaluator, EvaluatorSpec, Sample, Scale, UnscoredError
from dpoframe_summarization.evaluators.example import EXAMPLES
from dpoframe_summarization.evaluators.rouge_crew import Crew, cores
from dpoframe_summarization.evaluators.rouge_scoring import FIGURES, Job, Settings, rouge_of
from dpoframe_summarization.evaluators.spec import SpecOf, installed, named
from dpoframe_summarization.evaluators.texts import references_of, summary_of

_ASCII = regex.compile(r"[a-z0-9]", regex.IGNORECASE | regex.ASCII)
_LETTER = regex.compile(r"\p{L}")
_BATCH = 512
_SCALES = {name: Scale(0.0, 1.0, name.rpartition("_")[2] if "_" in name else "F") for name in FIGURES}


@dataclass(frozen=True)
class Rouge(Evaluator):
    """ROUGE-1, -2, -L and -Lsum (Lin 2004) against the references in `meta["reference"]`, by the package `rouge-score`.

    Each is an F measure with its precision and recall. Of several references the one with the best F counts, for each kind
    apart, as in `rouge-score`. An empty summary scores 0. What changes the numbers is in the id: `rouge:porter:rule:ascii`.

    Attributes:
        stemmer: Whether English endings are cut off (Porter), as papers mostly do.
        sentences: What Lsum takes for sentences: `rule` finds them by punctuation, `lines` takes each line for one. On texts
            without sentence breaks Lsum equals L.
        tokens: What words are made of. `ascii` is what published numbers have: a-z and digits, so that texts in other scripts
            would score 0; a reference mostly of other letters is unscored. `unicode` takes letters of all scripts, and
            each character of those that put no spaces between words.
    """

    stemmer: bool = True
    sentences: Literal["rule", "lines"] = "rule"
    tokens: Literal["ascii", "unicode"] = "ascii"

    spec: ClassVar[EvaluatorSpec] = SpecOf(  # type: ignore[assignment]
        EvaluatorSpec("rouge", "0.1.0", "response", _SCALES, "rougeL", limit=600.0)
    )

    def own(self, plain: EvaluatorSpec) -> EvaluatorSpec:
        """The spec with the settings in its id, and the version of the package."""
        stems = "porter" if self.stemmer else "no-stemmer"
        return named(plain, stems, self.sentences, self.tokens, assets=installed("rouge-score", "Apache-2.0"))

    def score(self, sample: Sample) -> Mapping[str, float]:
        """All figures of one summary."""
        return dict(zip(FIGURES, rouge_of(self._settings, [self._job(sample)])[0], strict=True))

    def batch_size(self) -> int:
        """Enough for several processes to share."""
        return _BATCH

    def score_batch(self, samples: Sequence[Sample]) -> list[Mapping[str, float] | UnscoredError | None]:
        """The same of many, on all cores."""
        found: list[Job | UnscoredError] = [self._job_or_reason(one) for one in samples]
        figures = iter(crew_of(self._settings).figures([one for one in found if not isinstance(one, UnscoredError)]))
        return [one if isinstance(one, UnscoredError) else dict(zip(FIGURES, next(figures), strict=True)) for one in found]

    @property
    def _settings(self) -> Settings:
        return Settings(self.stemmer, self.sentences == "rule", self.tokens == "unicode")

    def _job(self, sample: Sample) -> Job:
        summary, references = summary_of(sample), references_of(sample)
        if self.tokens == "ascii":
            references = [one for one in references if _is_ascii(one)]
            if not references:
                raise UnscoredError("the reference has few letters of a-z, so that its ROUGE would be 0; set `tokens: unicode`")
        return references, summary

    def _job_or_reason(self, sample: Sample) -> Job | UnscoredError:
        try:
            return self._job(sample)
        except UnscoredError as error:
            return error

    @classmethod
    def example_samples(cls) -> list[Sample]:
        """What `dpoframe plugins check` scores."""
        return list(EXAMPLES)


def _is_ascii(text: str) -> bool:
    """Whether the words of a text are mostly such as `rouge-score` sees."""
    seen = len(_ASCII.findall(text))
    return seen > 0 and 2 * seen >= sum(1 for _ in _LETTER.finditer(text))


@functools.cache
def crew_of(settings: Settings) -> Crew:
    """Those who score with these settings, the same ones for the life of the process."""
    return Crew(settings, cores())
