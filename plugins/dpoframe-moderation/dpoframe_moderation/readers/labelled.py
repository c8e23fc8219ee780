"""What all data sets of labelled texts have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from dpoframe import PreferencePair, RefusedRow
from dpoframe_moderation.forms import Answer, Asking, Form
from dpoframe_moderation.readers.agreement import agreed
from dpoframe_moderation.readers.choosing import Balance, Order, Part, balanced, ordered, part_of
from dpoframe_moderation.record import Record
from dpoframe_moderation.taxonomy import Taxonomy
from dpoframe_moderation.taxonomy import taxonomy as taxonomy_of

Found: TypeAlias = Iterator[Record | RefusedRow]
Rows: TypeAlias = Iterator[PreferencePair | RefusedRow]


@dataclass(frozen=True)
class Choice:
    """The keys that every data set of labelled texts has besides its own.

    Attributes:
        form: What a pair is made for: `verdict` (a generative moderator), `label` or `class` (a classifier); see `forms`.
        answer: Of the form `verdict`: `verdict`, `categories` or `each`.
        taxonomy: Categories to ask for in place of the data set's own: the name of a known taxonomy. Labels carry over where
            their words are the same; others are unknown.
        part: `train`, `validation` or `test`: 70, 10 and 20 in 100 texts, told by a digest of the text. What a source itself
            divides is better taken by `split`.
        order: As in the source, `mixed`, or the `short` texts first.
        balance: As many pairs of unsafe as of safe texts, category by category: `sample` leaves some out, `weight` weighs them.
        max_chars: Longer texts are refused as `over-long`.
    """

    form: Form = "verdict"
    answer: Answer = "verdict"
    taxonomy: str = ""
    part: Part = "all"
    order: Order = "source"
    balance: Balance = "none"
    max_chars: int | None = None

    def rows(self, found: Found, own: Taxonomy) -> Rows:
        """Pairs of what was found, after the refusals of what was not usable."""
        asking = Asking(taxonomy_of(self.taxonomy) if self.taxonomy else own, self.form, self.answer)
        kept: list[Record] = []
        for one in self._chosen(found, own, asking.taxonomy):
            if isinstance(one, RefusedRow):
                yield one
            else:
                kept.append(one)
        even = balanced([pair for record in ordered(kept, self.order) for pair in asking.pairs(record)], self.balance)
        yield from even.pairs
        for pair in even.left_out:
            side = "applies" if pair.meta["positive"] else "does not apply"
            reason = f"Left out by `balance`: there are more texts to which {pair.meta['category']!r} {side}."
            yield RefusedRow(pair.meta["origin"], pair.meta["row"], "left-out", reason)

    def _chosen(self, found: Found, own: Taxonomy, asked: Taxonomy) -> Found:
        """Records of the part, and a refusal in place of each that makes no pair."""
        for one in agreed(found):
            if isinstance(one, RefusedRow):
                yield one
            elif self.part in ("all", part_of(one)):
                yield self._usable(_carried(one, own, asked))

    def _usable(self, record: Record) -> Record | RefusedRow:
        if self.max_chars is not None and len(record.text) > self.max_chars:
            return record.refuse("over-long", f"The text has {len(record.text):,} characters, more than {self.max_chars:,}.")
        if record.unsafe is None and (self.form == "class" or (self.form == "verdict" and self.answer != "each")):
            known = ", ".join(f"{key} {value}" for key, value in record.labels.items()) or "nothing"
            return record.refuse("unlabelled", f"Whether the text is unsafe does not follow from what is known of it: {known}.")
        if self.form == "class" and sum(record.labels.values()) != int(bool(record.unsafe)):
            return record.refuse("several-labels", "The form `class` needs texts of one category at most, and of a known one.")
        if record.unsafe is None and not record.labels:
            return record.refuse("unlabelled", "Neither the verdict nor any category of the text is known.")
        return record


def labelled(own: Taxonomy | Callable[..., Taxonomy]) -> Callable[[Callable[..., Found]], Callable[..., Rows]]:
    """Makes a data set of a function that finds labelled texts: its own keys, and those of `Choice`.

    Args:
        own: The taxonomy of the labels, or a function of the data set's own keys that says it.
    """

    def of(find: Callable[..., Found]) -> Callable[..., Rows]:
        mine = inspect.signature(find, eval_str=True).parameters

        def dataset(**options: Any) -> Rows:
            given = {name: value for name, value in options.items() if name in mine}
            choice = Choice(**{name: value for name, value in options.items() if name not in mine})
            return choice.rows(find(**given), own if isinstance(own, Taxonomy) else own(**given))

        shared = inspect.signature(Choice, eval_str=True).parameters
        keys = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*mine.values(), *shared.values())]
        dataset.__name__, dataset.__qualname__, dataset.__module__ = find.__name__, find.__qualname__, find.__module__
        dataset.__doc__ = f"{inspect.cleandoc(find.__doc__ or '')}\n\nOther keys are those of `Choice`."
        # What the checks of a recipe's keys read.
        dataset.__signature__ = inspect.Signature(keys, return_annotation=Rows)  # type: ignore[attr-defined]
        dataset.__annotations__ = {one.name: one.annotation for one in keys} | {"return": Rows}
        return dataset

    return of


def _carried(record: Record, own: Taxonomy, asked: Taxonomy) -> Record:
    """The record with the labels that the taxonomy in which it is asked has as well."""
    if own == asked:
        return record
    pairs: Mapping[str | None, bool] = {asked.key(own.words(key)): value for key, value in record.labels.items()}
    return replace(record, labels={key: value for key, value in pairs.items() if key is not None})
