"""Whether a text entails a sentence, by a classifier of transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpoframe import Available, Refused
from dpoframe_summarization.evaluators.encoders import loaded
from dpoframe_summarization.evaluators.local_model import LocalModel
from dpoframe_summarization.evaluators.sentences import sentences
from dpoframe_summarization.evaluators.words import words

_ENTAILS = re.compile(r"(?<!not[ _-])(?<!non[ _-])(?<!no[ _-])\bentail(s|ed|ment)?\b|^(support(s|ed)?|consistent)$", re.IGNORECASE)


@dataclass(frozen=True)
class Entailment:
    """A classifier of pairs: a premise, and a sentence that may follow from it.

    Attributes:
        model: The classifier.
        label: The class that means "follows", as the classifier's settings write it; found by its name where it is empty.
    """

    model: LocalModel
    label: str = ""

    def probe(self) -> Available | Refused:
        """Whether the classifier is here, and which of its labels means entailment."""
        state = self.model.probe()
        if isinstance(state, Refused):
            return state
        settings = self.model.settings()
        kinds = settings.get("architectures") or ["a model that names none"]
        if not str(kinds[0]).endswith("ForSequenceClassification"):
            wanted = "expected a class that ends in ForSequenceClassification"
            return Refused(f"{self.model.model} is {kinds[0]}, {wanted}", "Name a classifier that was trained on entailment.")
        labels = labels_of(settings)
        if entails(labels, self.label) is None:
            told = f"has no label {self.label!r}" if self.label else "does not say which label means entailment"
            return Refused(f"{self.model.model} {told}", f"Set `label` to one of: {', '.join(labels) or 'none are named'}.")
        return Available()

    def chances(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Probability that the first text of each pair entails the second: softmax over the classes.

        Of a pair longer than the classifier takes, the longer text is cut off first.
        """
        there, place = loaded(self.model, "classifier"), entails(labels_of(self.model.settings()), self.label)

        def read(outputs: Any, inputs: Any) -> list[float]:
            found: list[float] = outputs.logits.double().softmax(-1)[:, place].tolist()
            return found

        return there.run(pairs, read) if pairs else []


def labels_of(settings: Mapping[str, Any]) -> list[str]:
    """The classes of a classifier in the order of its outputs."""
    named = settings.get("id2label") or {}
    return [str(named[place]) for place in sorted(named, key=int)]


def entails(labels: Sequence[str], wanted: str = "") -> int | None:
    """Which class means entailment: the wanted one, else the only one whose name says so; None where that is not clear."""
    found = [place for place, label in enumerate(labels) if (label == wanted if wanted else _ENTAILS.search(label))]
    return found[0] if len(found) == 1 else None


def chunks(source: str, most: int) -> list[str]:
    """The source in pieces of whole sentences, of so many words at most; a longer sentence is cut."""
    made: list[str] = []
    held = 0
    for sentence in sentences(source):
        for piece in pieces(sentence, most):
            size = len(words(piece))
            if made and held + size <= most:
                made[-1], held = f"{made[-1]} {piece}", held + size
            else:
                made.append(piece)
                held = size
    return made


def pieces(sentence: str, most: int) -> list[str]:
    """A sentence as it is, or cut where it has more words than that."""
    if len(words(sentence)) <= most:
        return [sentence]
    parts = sentence.split()
    if len(parts) > 1:
        return [" ".join(parts[start : start + most]) for start in range(0, len(parts), most)]
    return [sentence[start : start + most] for start in range(0, len(sentence), most)]
