"""Any classifier of texts in the layout of transformers."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpoframe import Asset, Available, MachineError, Refused
from dpoframe_moderation.classifier.quiet import quiet
from dpoframe_moderation.evaluators.classifier_weights import ClassifierWeights, digest_of
from dpoframe_moderation.evaluators.toxic_labels import toxic_labels

_MOST_TOKENS = 8192
"""Tokens of a batch, filling included: what a classifier of usual size does within 2 GB."""


@dataclass(frozen=True)
class SequenceClassifier:
    """A classifier that gives texts a probability by those of its labels that are toxic.

    A classifier that may give several labels at once gives the largest of the toxic ones, one that gives exactly one label
    their sum. Of a text that is longer than the classifier reads, every part is read, and the worst one counts.

    Attributes:
        weights: Where it lies.
        named: The labels that are toxic; empty to find them by their names.
    """

    weights: ClassifierWeights
    named: tuple[str, ...] = ()

    def probe(self) -> Available | Refused:
        """Whether it is on this machine, classifies texts, and its toxic labels are known."""
        try:
            settings = self.weights.settings()
        except MachineError as error:
            return Refused(str(error), "Get it, correct the path, or leave `classifier` out.")
        kinds = settings.get("architectures") or ["a model that names none"]
        if not str(kinds[0]).endswith("ForSequenceClassification"):
            return Refused(f"{self.weights.model} is {kinds[0]}, not ...ForSequenceClassification", "Name a text classifier.")
        known = list(_labels_of(settings))
        missing = [label for label in self.named if label not in known]
        if not missing and self.labels():
            return Available()
        wrong = f"has no label {', '.join(missing)}" if missing else "does not say by their names which of its labels are toxic"
        return Refused(f"{self.weights.model} {wrong}", f"Set `labels` to those that are toxic, of: {', '.join(known)}.")

    def labels(self) -> tuple[str, ...]:
        """The toxic labels, in the classifier's order."""
        known = _labels_of(self.weights.settings())
        wanted = self.named or (tuple(known) if len(known) == 1 else toxic_labels(list(known)))
        return tuple(label for label in known if label in wanted)

    def assets(self) -> tuple[Asset, ...]:
        """The weights, where they are there."""
        try:
            return (self.weights.asset(),)
        except MachineError:
            return ()

    def chances(self, texts: Sequence[str]) -> list[float]:
        """The probability of each text to be toxic; texts of like length are read together."""
        folder = self.weights.folder()
        files = sorted(folder.glob("*.safetensors"))
        loaded = _loaded(folder, tuple(digest_of(file) for file in files))
        places = tuple(_labels_of(self.weights.settings())[label] for label in self.labels())
        return loaded.chances(texts, places)


@dataclass(frozen=True)
class _Loaded:
    """A classifier in memory, in float32."""

    model: Any
    tokenizer: Any

    def chances(self, texts: Sequence[str], places: tuple[int, ...]) -> list[float]:
        """The probability of each text by the labels at `places`."""
        parts = [(number, part) for number, text in enumerate(texts) for part in self._parts(text)]
        parts.sort(key=lambda part: len(part[1]))
        found = [0.0] * len(texts)
        for batch in _batches(parts):
            for (number, _), chance in zip(batch, self._read([part for _, part in batch], places), strict=True):
                found[number] = max(found[number], chance)
        return found

    def _parts(self, text: str) -> list[list[int]]:
        """Tokens of the text, in as many parts as the classifier must read it in."""
        room = min(self.tokenizer.model_max_length, _positions(self.model.config))
        if self.tokenizer.is_fast:
            found = self.tokenizer(text, truncation=True, max_length=room, return_overflowing_tokens=True)["input_ids"]
        else:
            plain = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            step = max(1, room - self.tokenizer.num_special_tokens_to_add())
            starts = range(0, max(1, len(plain)), step)
            found = [self.tokenizer.build_inputs_with_special_tokens(plain[start : start + step]) for start in starts]
        # A tokenizer without special tokens makes nothing of an empty text, and a model reads at least one token.
        return [list(part) or [self.tokenizer.pad_token_id or 0] for part in found]

    def _read(self, parts: list[list[int]], places: tuple[int, ...]) -> list[float]:
        import torch

        width = max(map(len, parts))
        filler = self.tokenizer.pad_token_id or 0
        tokens = torch.tensor([part + [filler] * (width - len(part)) for part in parts], device=self.model.device)
        mask = torch.tensor([[1] * len(part) + [0] * (width - len(part)) for part in parts], device=self.model.device)
        with torch.inference_mode():
            logits = self.model(input_ids=tokens, attention_mask=mask).logits.cpu().double()
        if _several(self.model.config):
            chances = logits.sigmoid()[:, list(places)].amax(1)
        else:
            chances = logits.softmax(-1)[:, list(places)].sum(1)
        return [min(1.0, float(one)) for one in chances]


def _labels_of(settings: Mapping[str, Any]) -> dict[str, int]:
    """Place by label; transformers leaves out of config.json what is its default, two labels without names."""
    names = settings.get("id2label") or {0: "LABEL_0", 1: "LABEL_1"}
    return {str(label): int(place) for place, label in names.items()}


def _several(config: Any) -> bool:
    return bool(config.problem_type == "multi_label_classification" or config.num_labels == 1)


def _positions(config: Any) -> int:
    """How many tokens it reads. RoBERTa's kin count positions from the filler's number on, so they have that many fewer."""
    places = int(getattr(config, "max_position_embeddings", 512) or 512)
    shifted = config.model_type in ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "longformer")
    return places - config.pad_token_id - 1 if shifted else places


def _batches(parts: Sequence[tuple[int, list[int]]]) -> Iterator[list[tuple[int, list[int]]]]:
    """Parts in the order of their lengths, as many together as `_MOST_TOKENS` allow."""
    batch: list[tuple[int, list[int]]] = []
    for part in parts:
        if batch and (len(batch) + 1) * len(part[1]) > _MOST_TOKENS:
            yield batch
            batch = []
        batch.append(part)
    if batch:
        yield batch


@functools.lru_cache(maxsize=2)
def _loaded(folder: Path, marks: tuple[str, ...]) -> _Loaded:
    """`marks` are the weights' digests: a folder whose weights are exchanged is loaded again."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    where = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    return _Loaded(model.requires_grad_(False).eval().to(where), tokenizer)
