"""BERTScore: how well the words of a summary match those of a reference in context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from dpoframe import Available, Evaluator, EvaluatorSpec, Refused, Sample, Scale, UnscoredError
from dpoframe_summarization.evaluators.encoders import loaded
from dpoframe_summarization.evaluators.example import EXAMPLES
from dpoframe_summarization.evaluators.local_model import LOADING, LocalModel
from dpoframe_summarization.evaluators.spec import SpecOf, installed, named
from dpoframe_summarization.evaluators.texts import references_of, summary_of
from dpoframe_summarization.evaluators.words import words

LAYERS = {
    "bert-base-uncased": 9,
    "bert-large-uncased": 18,
    "bert-base-multilingual-cased": 9,
    "bert-base-chinese": 8,
    "distilbert-base-uncased": 5,
    "roberta-base": 10,
    "roberta-large": 17,
    "roberta-large-mnli": 19,
    "xlm-roberta-base": 9,
    "xlm-roberta-large": 17,
}
"""The layers that BERTScore's authors chose by agreement with people, for models by their published names."""

_SCALE = Scale(-1.0, 1.0, "cosine")


@dataclass(frozen=True)
class BertScore(Evaluator):
    """Precision, recall and F of greedily matched token vectors (Zhang et al. 2020, arXiv 1904.09675), by torchmetrics.

    Without weighting by rarity and without rescaling: plain cosines. Numbers of other models or layers do not
    compare; both are in the id, the version of torchmetrics is an asset. Of several references the best one counts, for each
    figure apart. What is longer than the model takes is cut off.

    Attributes:
        model: An encoder of transformers, by its folder or its name on the hub.
        layer: Which hidden layer gives the vectors, 0 for the embeddings. Left out, the one that the authors chose; a model
            that they did not try needs it.
    """

    model: str = "roberta-large"
    layer: Annotated[int, Ge(0)] | None = None

    spec: ClassVar[EvaluatorSpec] = SpecOf(  # type: ignore[assignment]
        EvaluatorSpec("bertscore", "0.1.0", "response", {"f1": _SCALE, "precision": _SCALE, "recall": _SCALE}, "f1", limit=LOADING)
    )

    def own(self, plain: EvaluatorSpec) -> EvaluatorSpec:
        """The spec with model and layer in its id."""
        assets = (*self._model.assets(), *installed("torchmetrics", "Apache-2.0"))
        return named(plain, self._model.name, f"layer-{self._layer()}", assets=assets)

    def probe(self) -> Available | Refused:
        """Whether the model is here, and has the layer."""
        state = self._model.probe()
        if isinstance(state, Refused):
            return state
        layers, wanted = int(self._model.settings().get("num_hidden_layers") or 0), self._layer()
        if wanted is None:
            return Refused(f"nobody has chosen a layer for {self._model.name}", f"Set `layer` to 0 to {layers}.")
        if layers and wanted > layers:
            return Refused(f"{self._model.name} has {layers} layers, not {wanted}", f"Set `layer` to 0 to {layers}.")
        return Available()

    def score(self, sample: Sample) -> Mapping[str, float]:
        """The best figures over the references."""
        summary, references = summary_of(sample), references_of(sample)
        if not words(summary):
            raise UnscoredError("the summary has no words to match")
        found = [_by_torchmetrics(self._model, self._layer(), summary, reference) for reference in references]
        return {name: max(one[name] for one in found) for name in self.spec.metrics}

    @property
    def _model(self) -> LocalModel:
        return LocalModel(self.model)

    def _layer(self) -> int | None:
        return self.layer if self.layer is not None else LAYERS.get(self._model.name)

    @classmethod
    def example_samples(cls) -> list[Sample]:
        """What `dpoframe plugins check` scores."""
        return list(EXAMPLES)


def _by_torchmetrics(model: LocalModel, layer: int | None, summary: str, reference: str) -> dict[str, float]:
    """The three figures by name.

    One pair a call: in torchmetrics 1.9 a batch of unequal lengths compares a summary with another one's reference.
    """
    from torchmetrics.functional.text.bert import bert_score

    there = loaded(model, "encoder")

    def hidden(network: Any, inputs: dict[str, Any]) -> Any:
        # torchmetrics takes layer 0 for "none given".
        given = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        return network(**given, output_hidden_states=True).hidden_states[layer]

    found: dict[str, Any] = bert_score(
        [summary],
        [reference],
        model=there.model,
        user_tokenizer=there.tokenizer,
        user_forward_fn=hidden,
        device=there.model.device,
        max_length=there.most,
        truncation=True,
    )
    return {name: float(found[name].double().reshape(())) for name in ("f1", "precision", "recall")}
