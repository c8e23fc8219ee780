"""The suites of dpoframe-evals: they parse, and nothing in them was trained on."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import dpoframe_evals
import pytest

from dpoframe.config import load_recipe
from dpoframe.harness import load_suite

SUITES = dpoframe_evals.dpoframe_suites()
FOLDER = Path(dpoframe_evals.__file__).parent / "suites" / "quickstart"


def rows(file: Path) -> list[dict[str, object]]:
    """The rows of a JSON Lines file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def training_pairs() -> list[dict[str, object]]:
    """The pairs the recipe `quickstart` trains on."""
    found = importlib.util.find_spec("dpoframe_text")
    if found is None or found.origin is None:
        pytest.skip("dpoframe-text is not installed")
    return rows(Path(found.origin).parent / "recipes" / "quickstart" / "train.jsonl")


def plain(text: object) -> str:
    """A prompt's words alone, lower case."""
    return " ".join(re.findall(r"\w+", str(text).lower()))


@pytest.mark.parametrize("name", sorted(SUITES))
def test_every_suite_parses(name: str) -> None:
    """Each suite that is shipped loads, under the name it says it has."""
    assert load_suite(SUITES[name]).name == name


def test_quickstart_is_large_enough() -> None:
    """At least 40 prompts and 60 held-out pairs; at least 30 prompts have keywords of a right answer."""
    suite = load_suite(SUITES["quickstart"])
    assert len(suite.prompts) >= 40
    assert len(suite.pairs) >= 60
    assert sum(bool(prompt.meta["expect"]) for prompt in suite.prompts) >= 30


def test_no_leakage() -> None:
    """No question occurs in two of training set, held-out pairs and prompts, nor twice in one, whatever its punctuation."""
    sets = [training_pairs(), rows(FOLDER / "heldout.jsonl"), rows(FOLDER / "prompts.jsonl")]
    questions = [plain(row["prompt"]) for one in sets for row in one]
    assert len(set(questions)) == len(questions)


def test_held_out_topics_are_other_topics() -> None:
    """Held-out pairs and training pairs share no topic."""
    topics = [{dict(row["meta"])["topic"] for row in one} for one in (training_pairs(), rows(FOLDER / "heldout.jsonl"))]  # type: ignore[call-overload]
    assert not topics[0] & topics[1]


def test_training_set_is_as_its_card_says() -> None:
    """At least 340 pairs, no text empty, chosen and rejected differ, and no author wrote most openings of the rejected."""
    pairs = training_pairs()
    assert len(pairs) >= 340
    assert all(str(row["chosen"]).strip() and str(row["rejected"]).strip() and row["chosen"] != row["rejected"] for row in pairs)
    openings = [" ".join(str(row["rejected"]).split()[:2]) for row in pairs]
    assert max(openings.count(opening) for opening in set(openings)) < 0.06 * len(pairs)


def test_recipe_names_this_suite() -> None:
    """The recipe `quickstart` parses and is evaluated on the suite of that name."""
    assert load_recipe("quickstart").evaluate == ("quickstart",)
