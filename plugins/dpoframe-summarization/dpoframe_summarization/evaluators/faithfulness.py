"""Whether a source supports what its summary says, by an entailment model or by a judge."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from dpoframe import AnyJudge, Available, Evaluator, EvaluatorSpec, Refused, Sample, Scale, UnscoredError
from dpoframe_summarization.evaluators.entailment import Entailment, chunks, pieces
from dpoframe_summarization.evaluators.example import EXAMPLES
from dpoframe_summarization.evaluators.local_model import LOADING, LocalModel
from dpoframe_summarization.evaluators.sentences import sentences
from dpoframe_summarization.evaluators.spec import SpecOf, named
from dpoframe_summarization.evaluators.texts import seen, source_of, summary_of
from dpoframe_summarization.evaluators.words import words

_SHARE = Scale(0.0, 1.0, "probability")
_BATCH = 32
_LONGEST = 100  # words of a sentence; one without end is taken in pieces
_VERDICT = re.compile(r"^\W*(yes|no)\b(?!.*\b(?:yes|no)\b)", re.IGNORECASE | re.DOTALL)

QUESTION = """\
Here is a text, and one sentence of a summary of it.

<text>
{source}
</text>

<sentence>
{sentence}
</sentence>

Is everything that the sentence says stated in the text, or does it follow from the text alone? What is only likely, or true but \
not in the text, does not count. Answer with one word: yes or no."""


@dataclass(frozen=True)
class Faithfulness(Evaluator):
    """Support of each sentence of a summary by its source; `mean` and `min` over the sentences.

    By an entailment model: the source is cut into pieces of whole sentences, and a sentence is as well supported as by the piece
    that entails it best (SummaC-ZS, Laban et al. 2022, arXiv 2111.09525, whose pieces are single sentences). By a judge: the
    judge reads the whole source and says yes or no of each sentence, 1 or 0; a reply that is neither leaves the summary unscored.

    The numbers are those of the model or the judge: it is in the id, and they compare with no other's.

    Attributes:
        model: A classifier of entailment, by its folder or its name on the hub.
        label: Its label that means entailment; left out, the one whose name says so.
        chunk_words: Words of a piece of the source.
        judge: A judge in place of the model, as in `win_rate`.
    """

    model: str = ""
    label: str = ""
    chunk_words: Annotated[int, Ge(1)] = 100
    judge: AnyJudge | None = None

    spec: ClassVar[EvaluatorSpec] = SpecOf(  # type: ignore[assignment]
        EvaluatorSpec("faithfulness", "0.1.0", "response", {"mean": _SHARE, "min": _SHARE}, "mean", limit=LOADING)
    )

    def own(self, plain: EvaluatorSpec) -> EvaluatorSpec:
        """The spec with the model, or the judge's, in its id."""
        if self.judge is not None:
            name = getattr(self.judge, "model", "") or dict(getattr(self.judge, "settings", {})).get("model", "")
            return named(plain, "judge", str(name).rpartition("/")[2])
        model = self._entailment.model
        return named(plain, model.name, self.label, f"{self.chunk_words}-words", assets=model.assets()) if self.model else plain

    def probe(self) -> Available | Refused:
        """Whether there is one model or one judge, and it can be asked here."""
        if bool(self.model) == (self.judge is not None):
            told = "both `model` and `judge` are given" if self.model else "no model is given"
            return Refused(told, "Set `model` to a classifier of entailment (its folder, or its name on the hub), or set `judge`.")
        return self.judge.probe() if self.judge is not None else self._entailment.probe()

    def score(self, sample: Sample) -> Mapping[str, float]:
        """Mean and least support of one."""
        source, told = self._texts(sample)
        return _summed(self._judged(source, told) if self.judge is not None else self._entailed([(source, told)])[0])

    def at_once(self) -> int:
        """As many as the judge may be asked at once."""
        return self.judge.at_once() if self.judge is not None else 1

    def batch_size(self) -> int:
        """Enough for the model to read texts of one length together; a judge is asked one by one."""
        return 1 if self.judge is not None else _BATCH

    def score_batch(self, samples: Sequence[Sample]) -> list[Mapping[str, float] | UnscoredError | None]:
        """The same of many, by the model."""
        if self.judge is not None:
            return list(super().score_batch(samples))
        found = [self._texts_or_reason(sample) for sample in samples]
        supports = iter(self._entailed([one for one in found if not isinstance(one, UnscoredError)]))
        return [one if isinstance(one, UnscoredError) else _summed(next(supports)) for one in found]

    @property
    def _entailment(self) -> Entailment:
        return Entailment(LocalModel(self.model), self.label)

    def _entailed(self, given: Sequence[tuple[str, list[str]]]) -> list[list[float]]:
        """Support of each sentence of each summary, by its best piece."""
        parts = [chunks(source, self.chunk_words) for source, _ in given]
        pairs = [(piece, sentence) for (_, told), some in zip(given, parts, strict=True) for sentence in told for piece in some]
        chances = iter(self._entailment.chances(pairs))
        return [[max(itertools.islice(chances, len(some))) for _ in told] for (_, told), some in zip(given, parts, strict=True)]

    def _judged(self, source: str, told: list[str]) -> list[float]:
        assert self.judge is not None
        return list(_verdicts(self.judge.ask([QUESTION.format(source=source, sentence=sentence) for sentence in told])))

    def _texts(self, sample: Sample) -> tuple[str, list[str]]:
        """The source, and the sentences of the summary."""
        source = seen(source_of(sample))
        found = sentences(seen(summary_of(sample)))
        told = [piece for sentence in found for piece in pieces(sentence, _LONGEST) if words(piece)]
        if not told or not words(source):
            raise UnscoredError(f"the {'source' if told else 'summary'} has no words")
        return source, told

    def _texts_or_reason(self, sample: Sample) -> tuple[str, list[str]] | UnscoredError:
        try:
            return self._texts(sample)
        except UnscoredError as error:
            return error

    @classmethod
    def example_samples(cls) -> list[Sample]:
        """What `dpoframe plugins check` scores."""
        return list(EXAMPLES)


def _verdicts(replies: Sequence[str]) -> Iterator[float]:
    for reply in replies:
        found = _VERDICT.search(reply)
        if found is None:
            raise UnscoredError(f"the judge answered neither yes nor no: {reply!r:.200}")
        yield float(found[1].lower() == "yes")


def _summed(supports: Sequence[float]) -> Mapping[str, float]:
    return {"mean": sum(supports) / len(supports), "min": min(supports)}
