"""The data set's contract holds for the toy's, and each check fails for a data set that breaks its rule."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from dpoframe import PreferencePair
from dpoframe.testing import DatasetContract
from dpoframe.testing.toy import toy_dataset


class TestToyDataset(DatasetContract):
    dataset = staticmethod(toy_dataset)
    options: ClassVar[Mapping[str, Any]] = {"count": 12}


GOOD = PreferencePair("q", "good", "bad")


@pytest.mark.parametrize(
    ("dataset", "check"),
    [
        (lambda path="": [GOOD], "parameters_are_recipe_keys"),
        (lambda *paths: [GOOD], "parameters_are_recipe_keys"),
        (lambda: [], "yields_pairs"),
        (lambda: [GOOD, None], "yields_pairs"),
        (lambda: [PreferencePair("q", "good", "")], "contents_are_of_known_types"),
        (lambda: [PreferencePair("q", "good", [{"text": "bad"}])], "contents_are_of_known_types"),  # type: ignore[list-item]
        (lambda: [PreferencePair("q", "same", "same")], "pairs_compare_something"),
        (lambda: [PreferencePair("q", "good", "bad", weight=0.0)], "pairs_compare_something"),
        (lambda: [GOOD, GOOD], "ids_are_unique"),
        (lambda: [PreferencePair("q", str(random.random()), "bad")], "repeats_itself"),
    ],
)
def test_dataset_checks_fail(dataset: Any, check: str, failed: Any) -> None:
    """Each check of the data set's contract fails for a data set that breaks its rule."""
    assert check in failed(DatasetContract, dataset=staticmethod(dataset))
