"""How a labelled text becomes pairs: the right judgement over a wrong one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from dpoframe import Message, PreferencePair
from dpoframe_moderation.record import Record
from dpoframe_moderation.taxonomy import OVERALL, Taxonomy
from dpoframe_moderation.verdicts import written

Form: TypeAlias = Literal["verdict", "label", "labels", "class"]
Answer: TypeAlias = Literal["verdict", "categories", "each"]

# The question last: a text that is cut to a model's length loses its beginning, not what is asked of it.
_QUESTION = "Text: {text}\n\nIs this text safe or unsafe? It is unsafe if it contains {categories}. {how}"
_NO_CATEGORIES = "harmful content"
_HOW = {
    "verdict": "Answer with one word, safe or unsafe.",
    "categories": "Answer safe, or unsafe and on the next line what it contains.",
}


@dataclass(frozen=True)
class Asking:
    """What is asked of a text.

    Attributes:
        taxonomy: The categories that the moderator is to tell apart.
        form: `verdict` asks a generative model in a chat message. `label` gives a classifier the text alone: one pair a known
            category, `hate` over `not hate` or the other way round, and `unsafe` over `not unsafe` for the verdict. `labels` puts
            all that is known of a text into one pair, a label a line, over the opposite of each: one forward a text. `class`
            gives one label of several that exclude each other: the right one over each wrong one, `safe` for none of them.
        answer: Of the form `verdict`: `verdict` has `safe` or `unsafe` for answers. `categories` has `unsafe`, below it the
            categories; besides the other verdict, wrong categories are rejected. `each` asks as `verdict` does, and once more
            for every known category, naming that one alone, so that the two answers' probabilities give a score a category.
    """

    taxonomy: Taxonomy
    form: Form = "verdict"
    answer: Answer = "verdict"

    def pairs(self, record: Record) -> Iterator[PreferencePair]:
        """The pairs of a record; none where nothing is known that they would need."""
        if self.form == "label":
            yield from self._labels(record)
        elif self.form == "labels":
            yield from self._together(record)
        elif self.form == "class":
            yield from self._classes(record)
        elif self.answer == "each":
            yield from self._each(record)
        elif record.unsafe is not None:
            yield from self._verdicts(record, record.unsafe)

    def question(self, text: str) -> list[Message]:
        """The chat message that asks for a verdict on a text, all categories named."""
        return self._question(text, tuple(self.taxonomy.categories), "categories" if self.answer == "categories" else "verdict")

    def _question(self, text: str, keys: tuple[str, ...], how: str) -> list[Message]:
        named = ", ".join(self.taxonomy.words(key) for key in keys) or _NO_CATEGORIES
        return [{"role": "user", "content": _QUESTION.format(categories=named, how=_HOW[how], text=text)}]

    def _verdicts(self, record: Record, unsafe: bool) -> Iterator[PreferencePair]:
        full = self.answer == "categories"
        found = [key for key in self.taxonomy.categories if record.labels.get(key)]
        prompt, right = self.question(record.text), written(unsafe, found if full else (), self.taxonomy)
        # Never one that the text may be of: only those that are known not to apply, and for safe texts any.
        others = [key for key in self.taxonomy.categories if not unsafe or record.labels.get(key) is False]
        another = [others[_draw(record.text, len(others))]] if full and others else []
        flipped = "safe" if unsafe else written(True, another, self.taxonomy)
        kind = "verdict and categories" if full else "verdict"
        yield self._pair(record, prompt, right, flipped, OVERALL, unsafe, wrong=kind)
        if unsafe and found and another:
            wrong = written(True, another, self.taxonomy)
            yield self._pair(record, prompt, right, wrong, OVERALL, unsafe, wrong="categories")

    def _each(self, record: Record) -> Iterator[PreferencePair]:
        if record.unsafe is not None:
            yield from self._verdicts(record, record.unsafe)
        for key in self.taxonomy.ordered(record.labels):
            positive = record.labels[key]
            prompt = self._question(record.text, (key,), "verdict")
            answers = (written(positive, (), self.taxonomy), written(not positive, (), self.taxonomy))
            yield self._pair(record, prompt, *answers, key, positive, wrong="verdict")

    def _labels(self, record: Record) -> Iterator[PreferencePair]:
        for key, positive in self._known(record).items():
            yes = self.taxonomy.words(key)
            answers = (yes, f"not {yes}") if positive else (f"not {yes}", yes)
            yield self._pair(record, record.text, *answers, key, positive, wrong="verdict")

    def _together(self, record: Record) -> Iterator[PreferencePair]:
        known = self._known(record)
        yes = {self.taxonomy.words(key): positive for key, positive in known.items()}
        right, opposite = (
            "\n".join(words if positive is side else f"not {words}" for words, positive in yes.items()) for side in (True, False)
        )
        if known:
            yield self._pair(record, record.text, right, opposite, OVERALL, any(known.values()), wrong="labels")

    def _known(self, record: Record) -> dict[str, bool]:
        """What is known of a record's categories, and of the verdict."""
        known = {key: record.labels[key] for key in self.taxonomy.ordered(record.labels)}
        return known if record.unsafe is None else {**known, OVERALL: record.unsafe}

    def _classes(self, record: Record) -> Iterator[PreferencePair]:
        true = [key for key in self.taxonomy.categories if record.labels.get(key)]
        if record.unsafe is None or len(true) != int(record.unsafe):
            return
        right = self.taxonomy.words(true[0]) if true else "safe"
        for label in ("safe", *self.taxonomy.categories.values()):
            if label != right:
                category = self.taxonomy.key(label) or (true[0] if true else OVERALL)
                positive = bool(record.labels.get(category, record.unsafe))
                yield self._pair(record, record.text, right, label, category, positive, wrong=label)

    def _pair(
        self,
        record: Record,
        prompt: str | list[Message],
        right: str,
        other: str,
        category: str,
        positive: bool,
        *,
        wrong: str,
    ) -> PreferencePair:
        meta: dict[str, Any] = {
            "text": record.text,
            "unsafe": record.unsafe,
            "labels": {key: record.labels[key] for key in self.taxonomy.ordered(record.labels)},
            "category": category,
            "positive": positive,
            "group": dict(record.group),
            "form": self.form,
            "answer": self.answer,
            "wrong": wrong,
            "taxonomy": self.taxonomy.name,
            "categories": dict(self.taxonomy.categories),
            "origin": record.source,
            "row": record.row,
        }
        name = f"{record.id}/{category}" if self.form != "verdict" or category != OVERALL else record.id
        name = name if wrong.startswith("verdict") else f"{name}/{wrong}"
        return PreferencePair(prompt, right, other, name, meta=meta)


def _draw(text: str, count: int) -> int:
    """A number below `count` that follows from the text alone, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") % count
