"""The contract of a data set."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from dpoframe import Media, PreferencePair, RefusedRow
from dpoframe.testing.contract import Contract, expect

LOOKED_AT = 1000


class DatasetContract(Contract):
    """What every data set must hold to. Set `dataset` (as a staticmethod) and the `options` to call it with.

    Only the first 1000 rows are looked at.
    """

    kind: ClassVar[str] = "dataset"
    dataset: ClassVar[Callable[..., Iterable[PreferencePair | RefusedRow]]]
    options: ClassVar[Mapping[str, Any]] = {}

    def rows(self) -> list[Any]:
        """The first rows, read anew."""
        return list(itertools.islice(type(self).dataset(**self.options), LOOKED_AT))

    def pairs(self) -> list[PreferencePair]:
        """The pairs among the first rows."""
        return [row for row in self.rows() if isinstance(row, PreferencePair)]

    def test_parameters_are_recipe_keys(self) -> None:
        """Every parameter can be given by name and is annotated, since a recipe's keys are checked against them.

        If this fails: write parameters as `path: str, limit: int | None = None`; no *args.
        """
        for name, parameter in inspect.signature(type(self).dataset).parameters.items():
            positional = parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL)
            expect(not positional, f"the parameter {name!r} cannot be given by name")
            expect(parameter.annotation is not parameter.empty, f"the parameter {name!r} has no annotation")

    def test_yields_pairs(self) -> None:
        """Rows are PreferencePair or RefusedRow, and at least one of them is a pair.

        If this fails: yield a dpoframe.RefusedRow in place of a row that makes no pair; do not yield None or dicts.
        """
        strange = sorted({type(row).__name__ for row in self.rows() if not isinstance(row, PreferencePair | RefusedRow)})
        expect(not strange, f"yields {', '.join(strange)}")
        expect(bool(self.pairs()), "yields no pair at all")

    def test_contents_are_of_known_types(self) -> None:
        """Prompts and responses are text, chat messages or Media, and none of the responses is empty.

        If this fails: convert in the data set; yield a RefusedRow with a stable code for an empty response.
        """
        for pair in self.pairs():
            for name in ("prompt", "chosen", "rejected"):
                fault = _fault_of_content(getattr(pair, name))
                expect(not fault, f"pair {pair.id}: {name} {fault}")
            expect(bool(pair.chosen) and bool(pair.rejected), f"pair {pair.id}: a response is empty")

    def test_pairs_compare_something(self) -> None:
        """Chosen and rejected differ, and weights are positive and finite.

        If this fails: refuse ties and repeated responses: they teach nothing.
        """
        for pair in self.pairs():
            expect(pair.chosen != pair.rejected, f"pair {pair.id}: chosen and rejected are identical")
            expect(math.isfinite(pair.weight) and pair.weight > 0, f"pair {pair.id}: the weight is {pair.weight}")

    def test_ids_are_unique(self) -> None:
        """No two pairs share an id.

        If this fails: leave `id` out, and it becomes a digest of the contents; refuse rows that repeat.
        """
        seen: set[str] = set()
        for pair in self.pairs():
            expect(pair.id not in seen, f"the id {pair.id!r} occurs twice")
            seen.add(pair.id)

    def test_repeats_itself(self) -> None:
        """Calling the data set again gives the same rows in the same order.

        If this fails: take a `seed` parameter for anything random; sort what comes from a set or a folder listing.
        """
        first, second = self.rows(), self.rows()
        expect(first == second, "a second call gives other rows")


def _fault_of_content(content: Any) -> str:
    """What is wrong with a prompt or a response; empty where nothing is."""
    if isinstance(content, str | Media):
        return ""
    if not isinstance(content, Sequence):
        return f"is a {type(content).__name__}, expected text, chat messages or Media"
    for message in content:
        if not (isinstance(message, Mapping) and {"role", "content"} <= set(message)):
            return f"holds {message!r:.80}, expected messages with `role` and `content`"
    return ""
