"""The modality `text_classifier`: any encoder or decoder of transformers with a classification head."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dpoframe import CheckpointError, Example, MachineError, Measure, Modality, PreferencePair, Request, Sample, Scores
from dpoframe_moderation.classifier.adapters import LoraSection, freeze_body, without_dropout
from dpoframe_moderation.classifier.answers import Answering
from dpoframe_moderation.classifier.encoding import Cut, Encoded, TextEncoder
from dpoframe_moderation.classifier.labels import Labels, exclusive, named
from dpoframe_moderation.classifier.loading import DtypeName, Loader
from dpoframe_moderation.classifier.source import is_classifier

if TYPE_CHECKING:
    from torch import nn

    from dpoframe_moderation.classifier.batch import LabelBatch


@dataclass(frozen=True)
class TextClassifier(Modality):
    """A classifier of texts: a score is the log-probability, in nats, of the label that a response names, given the text.

    With several labels a text (`multi_label`), each has a probability of its own, s(logit): a response says `hate` or `not hate`,
    or several such lines, whose log-probabilities are summed. With labels that exclude each other a response is the name of one,
    and the probabilities are the softmax. Right and wrong label of a text, and all its labels in a batch, share one forward.

    Asked for an answer, it gives a verdict: `safe`, or `unsafe` and on the next line the labels whose probability reaches the
    threshold. `p/<label>` in a sample's detail is the probability, `truncated` whether the text was cut, `hidden` how many
    invisible characters were left out.

    Attributes:
        model: A folder, a `.gguf` file or a name on the Hugging Face hub: a classifier, or an encoder or decoder that gets a head.
        labels: Names of the labels in the head's order, or a taxonomy's name (`openai`), which stands for `unsafe` and its
            categories. Empty for those of a model that is a classifier already.
        multi_label: Whether a text may have several labels. None for what model or taxonomy say, else true.
        revision: Branch, tag or commit on the hub.
        dtype: Type of the weights. Keep float32 to train all of them, and set `trainer.precision` for speed.
        new_head: Throw away the head that the model has.
        head_seed: Seed of a fresh head.
        lora: Train low-rank adapters and the head; None trains all weights.
        head_only: Train the head alone.
        top_layers: Train the head and this many of the uppermost layers: the backward ends below them.
        trust_remote_code: Run code that the model brings.
        merge_on_save: Write the whole model with the adapters added in, in place of an adapter folder.
        max_length: Most tokens of a text; the model's own limit where that is lower.
        truncate: Which end of a longer text stays.
        clean: Leave out control, zero-width and other invisible characters, and make look-alike forms one (Unicode NFKC).
        threshold: From this probability on a label applies.
        thresholds: The same for single labels, by name.
        safe_labels: Of labels that exclude each other, those of texts that are not unsafe.
        generation_batch: Texts answered at a time.
    """

    model: str
    labels: tuple[str, ...] | str = ()
    multi_label: bool | None = None
    revision: str | None = None
    dtype: DtypeName = "float32"
    new_head: bool = False
    head_seed: int = 0
    lora: LoraSection | None = None
    head_only: bool = False
    top_layers: int | None = None
    trust_remote_code: bool = False
    merge_on_save: bool = False
    max_length: int = 512
    truncate: Cut = "keep_start"
    clean: bool = True
    threshold: float = 0.5
    thresholds: Mapping[str, float] = field(default_factory=dict)
    safe_labels: tuple[str, ...] = ("safe",)
    generation_batch: int = 16

    library: ClassVar[str] = "transformers"

    def __post_init__(self) -> None:
        """ValueError with every value that cannot be."""
        rules = [
            (not self.model, "model is empty."),
            (self.max_length < 1, f"max_length is {self.max_length}; it must be at least 1."),
            (self.generation_batch < 1, f"generation_batch is {self.generation_batch}; it must be at least 1."),
            (self.lora is not None and self.head_only, "lora and head_only exclude each other; give one."),
            (self.top_layers is not None and self.top_layers < 1, f"top_layers is {self.top_layers}; it must be at least 1."),
            (
                self.top_layers is not None and (self.lora is not None or self.head_only),
                "top_layers goes with neither lora (which has lora.top_layers) nor head_only; give one.",
            ),
        ]
        faults = [message for wrong, message in rules if wrong] + (self.lora.faults() if self.lora else [])
        faults += [f"{fault}" for fault in self._answering.faults()]
        if not isinstance(self.labels, str) and self.labels:
            Labels(tuple(self.labels))
        if faults:
            raise ValueError(" ".join(faults))

    def build(self) -> nn.Module:
        """The policy, ready to train: dropout off, adapters on where `lora` asks for them, the head always trainable."""
        loader = self._loader
        model = loader.base.weights(self._labels, self._encoder.padding, self.dtype, self.new_head, self.head_seed)
        if loader.adapter is not None:
            model = loader.with_adapter(model).merge_and_unload()
        stands_in_a_file = loader.adapter is None and loader.source.kind != "gguf"
        if not stands_in_a_file:
            # An adapter on these weights could name no base that peft would find.
            model.config._name_or_path = model.name_or_path = ""
        without_dropout(model)
        model.requires_grad_(True)
        if self.head_only or self.top_layers:
            freeze_body(model, self.top_layers or 0)
        made: nn.Module = self.lora.attach(model) if self.lora is not None else model
        return made.train()

    def collate(self, examples: Sequence[Example]) -> LabelBatch:
        """Lays each text down once. DataError where a response names no label of the head."""
        import torch

        from dpoframe_moderation.classifier.batch import LabelBatch

        rows = [text.ids for text in self._encoder.encode([example.prompt for example in examples])]
        places = {ids: number for number, ids in enumerate(dict.fromkeys(rows))}
        named = [self._labels.read(example.response, example.pair_id) for example in examples]
        terms = [(number, places[rows[number]], term.index, term.positive) for number, one in enumerate(named) for term in one]
        example, text, label, positive = zip(*terms, strict=True)
        return LabelBatch(
            dict(self._encoder.padded(list(places))),
            torch.tensor(example),
            torch.tensor(text),
            torch.tensor(label),
            torch.tensor(positive),
            torch.tensor([len(one) for one in named]),
        )

    def score(self, model: nn.Module, batch: LabelBatch) -> Scores:
        """Sums (N,) of the log-probabilities of the labels that each response names; the length is their number."""
        from dpoframe_moderation.classifier.scoring import score_labels

        return score_labels(model, batch, self._labels.multi)

    def generate(self, model: nn.Module, requests: Sequence[Request]) -> Iterator[Sample]:
        """Verdicts, shortest texts first; settings are `threshold` and `thresholds`, those of language models change nothing."""
        ways = {request.id: self._answering.changed(request.settings, self._labels) for request in requests}
        texts = self._encoder.encode([request.prompt for request in requests])
        order = sorted(range(len(requests)), key=lambda number: len(texts[number].ids))
        for start in range(0, len(order), self.generation_batch):
            part = order[start : start + self.generation_batch]
            found = self._probabilities(model, [texts[number] for number in part])
            for number, row in zip(part, found, strict=True):
                yield self._sample(requests[number], texts[number], row, ways[requests[number].id])

    def check_generation(self, settings: Mapping[str, Any]) -> bool:
        """Never at random; ConfigError for settings that are unknown or wrong."""
        self._answering.changed(settings)
        return False

    def measure(self, example: Example) -> Measure:
        """Tokens of the text after truncation and labels of the response, and digests of them.

        An empty response, a text that is to be answered, measures 0. DataError where one names no label of the head.
        """
        (text,) = self._encoder.encode([example.prompt])
        terms = self._labels.read(example.response, example.pair_id) if example.response else ()
        said = sorted((term.index, term.positive) for term in terms)
        return Measure(len(text.ids), len(terms), _digest(text.ids), _digest(said), truncated=text.truncated)

    def fingerprint(self) -> dict[str, Any]:
        """Digest of tokenizer and truncation, the labels, the weights' type, and the thresholds, which decide answers."""
        own = dict(sorted(self.thresholds.items()))
        return {
            "tokens": self._encoder.digest,
            "labels": list(self._labels.names),
            "multi_label": self._labels.multi,
            "dtype": self.dtype,
            "answers": [self.threshold, own, list(self.safe_labels)],
        }

    def card(self) -> Mapping[str, str]:
        """How the saved folder is loaded by transformers, and the hub's name of the model it was trained from."""
        from dpoframe_moderation.classifier.saving import USAGE

        base = {"base_model": self.model} if "/" in self.model and not Path(self.model).exists() else {}
        return {"pipeline_tag": "text-classification", **base, "usage": USAGE}

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Whether a folder's configuration names a classifier of transformers, or peft's adapter to one."""
        return is_classifier(folder)

    def settle(self, folder: Path) -> None:
        """Its tokenizer and labels stand in for the model's own where that is gone."""
        _HOMES[self.model] = str(folder)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Writes what `AutoModelForSequenceClassification.from_pretrained` loads, or peft where the model has adapters."""
        from dpoframe_moderation.classifier.saving import save

        save(model, self._encoder.tokenizer, folder, merge=self.merge_on_save)

    def load(self, folder: Path) -> nn.Module:
        """Reads a folder that `save`, transformers or peft wrote; an adapter stays switchable."""
        self.settle(folder)
        loader = Loader(str(folder), trust_remote_code=self.trust_remote_code)
        if loader.adapter is not None and not _loadable(loader.base):
            # The base's folder is gone or was another machine's: this modality knows where it came from.
            loader.__dict__["base"] = self._loader.base
        fresh = loader.adapter is not None and self.new_head
        model = loader.base.weights(self._labels, self._encoder.padding, self.dtype, fresh, self.head_seed)
        if loader.adapter is not None:
            model = loader.with_adapter(model)
        made: nn.Module = model
        return made.eval()

    @property
    def _answering(self) -> Answering:
        return Answering(self.threshold, self.thresholds)

    @property
    def _loader(self) -> Loader:
        return Loader(self.model, self.revision, self.trust_remote_code)

    @property
    def _encoder(self) -> TextEncoder:
        return _reading(self.model, self.revision, self.trust_remote_code, self.max_length, self.truncate, self.clean)

    @property
    def _labels(self) -> Labels:
        wanted = named(self.labels if isinstance(self.labels, str) else tuple(self.labels))
        multi = False if self.multi_label is None and exclusive(self.labels) else self.multi_label
        return _labels(self.model, self.revision, self.trust_remote_code, wanted, multi, self.new_head)

    def _probabilities(self, model: nn.Module, texts: Sequence[Encoded]) -> list[list[float]]:
        """The probability of each label of each text."""
        import torch

        from dpoframe_moderation.classifier.scoring import probabilities_of

        device = next(model.parameters()).device
        inputs = {name: rows.to(device) for name, rows in self._encoder.padded([text.ids for text in texts]).items()}
        with torch.no_grad():
            found: list[list[float]] = probabilities_of(model, inputs, self._labels.multi).tolist()
        return found

    def _sample(self, request: Request, text: Encoded, row: Sequence[float], way: Answering) -> Sample:
        labels = self._labels
        detail = {"length": 1.0, "truncated": float(text.truncated), "hidden": float(text.hidden)}
        detail |= {f"p/{name}": value for name, value in zip(labels.names, row, strict=True)}
        return Sample(request.id, request.prompt, way.verdict(row, labels, self.safe_labels), detail=detail)

    @classmethod
    def example_pairs(cls) -> list[PreferencePair]:
        """What `dpoframe plugins check` scores: of a classifier of the taxonomy `openai`."""
        return [
            PreferencePair("Have a nice day!", "not unsafe", "unsafe"),
            PreferencePair("I will hurt you.", "violence\nunsafe", "not violence\nnot unsafe"),
        ]


# Where models were loaded from in this process: a run folder read on another machine brings tokenizer and labels itself.
_HOMES: dict[str, str] = {}


@lru_cache(maxsize=8)
def _reading(model: str, revision: str | None, trust_remote_code: bool, max_length: int, cut: Cut, clean: bool) -> TextEncoder:
    loader = _present(model, revision, trust_remote_code)
    config: Any = loader.config.get_text_config()
    return TextEncoder(loader.tokenizer(), max_length, cut, clean, getattr(config, "max_position_embeddings", None))


@lru_cache(maxsize=8)
def _labels(
    model: str, revision: str | None, trust_remote_code: bool, wanted: tuple[str, ...], multi: bool | None, new_head: bool
) -> Labels:
    return _present(model, revision, trust_remote_code).labels(wanted, multi, new_head)


def _present(model: str, revision: str | None, trust_remote_code: bool) -> Loader:
    """The loader of a model, or where that is gone, of the folder that was written of it."""
    loader = Loader(model, revision, trust_remote_code)
    try:
        loader.config  # noqa: B018 - reading it tells whether the model is there
    except (CheckpointError, MachineError):
        if model not in _HOMES:
            raise
        return Loader(_HOMES[model], None, trust_remote_code)
    return loader


def _loadable(loader: Loader) -> bool:
    try:
        return bool(loader.source)
    except (CheckpointError, MachineError):
        return False


def _digest(values: Sequence[Any]) -> str:
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=16).hexdigest()
