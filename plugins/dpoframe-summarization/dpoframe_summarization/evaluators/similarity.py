"""How near a summary's meaning is to a text's, by vectors."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from dpoframe import Asset, Available, Evaluator, EvaluatorSpec, Refused, Sample, Scale, UnscoredError
from dpoframe_summarization.evaluators.encoders import loaded
from dpoframe_summarization.evaluators.example import EXAMPLES
from dpoframe_summarization.evaluators.local_model import LOADING, LocalModel, digest_of
from dpoframe_summarization.evaluators.spec import SpecOf, named
from dpoframe_summarization.evaluators.texts import references_of, seen, source_of, summary_of
from dpoframe_summarization.evaluators.words import words

WORDLLAMA = "wordllama"
_WEIGHTS = "weights/l2_supercat_256.safetensors"
_FIX = 'Install with: pip install "dpoframe-summarization[similarity]", or name another `encoder`.'
_BATCH = 256


@dataclass(frozen=True)
class Similarity(Evaluator):
    """Cosine between the vectors of a summary and of its reference, or of its source; of several references the best.

    By default static word vectors that come in a wheel (wordllama, 256 numbers, nothing is downloaded): quick, and blind to order
    and negation. Any encoder of transformers does as well, by the mean of its last hidden states over the tokens; what is longer
    than it takes is cut off. Cosines of other encoders do not compare, so the encoder is in the id.

    Attributes:
        encoder: `wordllama`, or an encoder's folder or name on the hub.
        against: What the summary is compared with.
    """

    encoder: str = WORDLLAMA
    against: Literal["reference", "source"] = "reference"

    spec: ClassVar[EvaluatorSpec] = SpecOf(  # type: ignore[assignment]
        EvaluatorSpec("similarity", "0.1.0", "response", {"cosine": Scale(-1.0, 1.0, "cosine")}, "cosine", limit=LOADING)
    )

    def own(self, plain: EvaluatorSpec) -> EvaluatorSpec:
        """The spec with the encoder and the other side in its id."""
        if self.encoder == WORDLLAMA:
            return named(plain, WORDLLAMA, self.against, assets=_wordllama_assets())
        return named(plain, self._model.name, self.against, assets=self._model.assets())

    def probe(self) -> Available | Refused:
        """Whether the encoder is here."""
        if self.encoder != WORDLLAMA:
            return self._model.probe()
        if importlib.util.find_spec("wordllama") is None:
            return Refused("wordllama is not installed", _FIX)
        return Available() if (_wordllama_folder() / _WEIGHTS).is_file() else Refused("wordllama came without its weights", _FIX)

    def score(self, sample: Sample) -> Mapping[str, float]:
        """The cosine of one."""
        return self._cosines([self._texts(sample)])[0]

    def batch_size(self) -> int:
        """Enough to be sorted by length."""
        return _BATCH

    def score_batch(self, samples: Sequence[Sample]) -> list[Mapping[str, float] | UnscoredError | None]:
        """The same of many."""
        found = [self._texts_or_reason(sample) for sample in samples]
        cosines = iter(self._cosines([one for one in found if not isinstance(one, UnscoredError)]))
        return [one if isinstance(one, UnscoredError) else next(cosines) for one in found]

    @property
    def _model(self) -> LocalModel:
        return LocalModel(self.encoder)

    def _cosines(self, given: Sequence[list[str]]) -> list[Mapping[str, float]]:
        """The best cosine of each list's first text with one of the others."""
        vectors = iter(self._vectors([text for texts in given for text in texts]))
        made: list[Mapping[str, float]] = []
        for texts in given:
            first, *others = [next(vectors) for _ in texts]
            made.append({"cosine": max(float(first @ other) for other in others)})
        return made

    def _vectors(self, texts: list[str]) -> list[NDArray[np.float64]]:
        if not texts:
            return []
        found = _static(texts) if self.encoder == WORDLLAMA else loaded(self._model, "encoder").run(texts, _means)
        return [_unit(np.asarray(one, dtype=np.float64)) for one in found]

    def _texts(self, sample: Sample) -> list[str]:
        """The summary, and what it is compared with."""
        others = references_of(sample) if self.against == "reference" else [source_of(sample)]
        texts = [seen(one) for one in (summary_of(sample), *others)]
        if not all(map(words, texts)):
            raise UnscoredError(f"the summary or its {self.against} has no words, and so no vector")
        return texts

    def _texts_or_reason(self, sample: Sample) -> list[str] | UnscoredError:
        try:
            return self._texts(sample)
        except UnscoredError as error:
            return error

    @classmethod
    def example_samples(cls) -> list[Sample]:
        """What `dpoframe plugins check` scores."""
        return list(EXAMPLES)


def _means(outputs: Any, inputs: Any) -> list[Any]:
    """Mean of the last hidden states over the tokens that are no padding."""
    mask = inputs["attention_mask"].unsqueeze(-1).double()
    means = (outputs.last_hidden_state.double() * mask).sum(1) / mask.sum(1)
    return list(means.cpu().numpy())


def _static(texts: list[str]) -> list[Any]:
    return [_wordllama().embed([text], norm=False)[0] for text in texts]


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector


def _wordllama_folder() -> Path:
    found = importlib.util.find_spec("wordllama")
    return Path(str(found.origin)).parent if found is not None else Path("wordllama")


def _wordllama_assets() -> tuple[Asset, ...]:
    file = _wordllama_folder() / _WEIGHTS
    return (Asset(file.name, f"sha256:{digest_of(file)}", "MIT"),) if file.is_file() else ()


@functools.cache
def _wordllama() -> Any:
    from wordllama import WordLlama  # type: ignore[import-untyped]

    # Its own folder as the cache, and no download: it then never asks the network.
    return WordLlama.load(cache_dir=_wordllama_folder(), disable_download=True)
