"""Verdicts counted: against scikit-learn, with unknown labels and with answers that cannot be read."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import pytest
from dpoframe_moderation.evaluators.moderation import Moderation
from dpoframe_moderation.taxonomy import TAXONOMIES
from sklearn.metrics import precision_recall_fscore_support

from dpoframe import ConfigError, Sample, Scored
from dpoframe.testing import EvaluatorContract

OPENAI = TAXONOMIES["openai"]


def asked(number: int, response: str, **meta: Any) -> Sample:
    """An answer about a text of OpenAI's taxonomy."""
    return Sample(f"{number}#0", f"Is it safe? {number}", response, meta={"categories": OPENAI.categories, **meta})


def figures(evaluator: Moderation, samples: list[Sample]) -> dict[str, float]:
    """All figures: means over the samples that have them, and aggregates."""
    scores = [(one.id, found) for one in samples if (found := evaluator.score(one)) is not None]
    columns: dict[str, list[float]] = {name: [] for name in evaluator.spec.metrics}
    for _, found in scores:
        for name in set(found) & set(columns):
            columns[name].append(found[name])
    means = {name: sum(values) / len(values) for name, values in columns.items() if values}
    return {**means, **evaluator.aggregate([Scored(name, name, found) for name, found in scores])}


class TestContract(EvaluatorContract):
    """The evaluator keeps the contract, with a category of its own."""

    evaluator = Moderation(taxonomy="hatecheck", groups={"functionality": ("slur_h",)})
    samples = Moderation.example_samples()


class TestContractPlain(EvaluatorContract):
    """So does the one without settings."""

    evaluator = Moderation()
    samples = Moderation.example_samples()


def drawn(seed: int) -> list[tuple[dict[str, bool], frozenset[str], str]]:
    """Known labels, flagged categories and the answer that says so; one answer in six cannot be read."""
    random_ = random.Random(seed)
    rows = []
    for _ in range(200):
        known = {key: random_.random() < 0.3 for key in OPENAI.categories if random_.random() < 0.7}
        said = frozenset(key for key in OPENAI.categories if random_.random() < 0.2)
        words = ", ".join(OPENAI.words(key) for key in sorted(said))
        answer = random_.choice(["?", "safe or unsafe"]) if random_.random() < 1 / 6 else f"unsafe\n{words}" if said else "safe"
        rows.append((known, frozenset() if answer in ("?", "safe or unsafe") else said, answer))
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_equals_scikit_learn(seed: int) -> None:
    """Precision, recall and F1 of every category and overall are scikit-learn's on the texts whose label is known."""
    rows = drawn(seed)
    samples = [asked(n, answer, labels=known, unsafe=any(known.values())) for n, (known, _, answer) in enumerate(rows)]
    found = figures(Moderation(taxonomy="openai"), samples)
    for key in OPENAI.categories:
        truth, said = zip(*[(known[key], key in flagged) for known, flagged, _ in rows if key in known], strict=True)
        theirs = precision_recall_fscore_support(truth, said, average="binary")
        assert [found[f"{key}/{name}"] for name in ("precision", "recall", "f1")] == pytest.approx(theirs[:3])
    truth, said = zip(*[(any(known.values()), bool(flagged)) for known, flagged, _ in rows], strict=True)
    theirs = precision_recall_fscore_support(truth, said, average="binary")
    assert [found[name] for name in ("precision", "recall", "f1")] == pytest.approx(theirs[:3])
    unread = [answer in ("?", "safe or unsafe") for _, _, answer in rows]
    assert found["parse_failure"] == pytest.approx(sum(unread) / len(rows))
    harmless = [flag for true, flag in zip(truth, said, strict=True) if not true]
    assert found["over_refusal"] == pytest.approx(sum(harmless) / len(harmless))


def verdicts(unparsable: Any = "own") -> Mapping[str, float]:
    """Four unsafe texts (flagged, passed, unreadable twice), four safe ones (flagged, passed, unreadable twice)."""
    answers = ["unsafe", "safe", "maybe", "safe, no, unsafe"] * 2
    samples = [asked(n, answer, unsafe=n < 4) for n, answer in enumerate(answers)]
    return figures(Moderation(unparsable=unparsable), samples)


def test_unreadable_answers_are_a_class_of_their_own() -> None:
    """They are neither flag nor pass: recall, under-refusal and their share of the unsafe texts make one."""
    found = verdicts()
    assert (found["recall"], found["under_refusal"], found["over_refusal"]) == (0.25, 0.25, 0.25)
    assert (found["precision"], found["parse_failure"], found["accuracy"]) == (0.5, 0.5, 0.25)
    assert found["f1"] == pytest.approx(2 * 0.5 * 0.25 / 0.75)


@pytest.mark.parametrize(
    ("unparsable", "recall", "under", "over", "accuracy"), [("safe", 0.25, 0.75, 0.25, 0.5), ("unsafe", 0.75, 0.25, 0.75, 0.5)]
)
def test_unreadable_answers_as_a_guard_takes_them(
    unparsable: Any, recall: float, under: float, over: float, accuracy: float
) -> None:
    """Let through they are passes, held back flags; the share that cannot be read stays, and the id tells the choice."""
    found = verdicts(unparsable)
    assert [found[name] for name in ("recall", "under_refusal", "over_refusal", "accuracy")] == [recall, under, over, accuracy]
    assert found["parse_failure"] == 0.5
    assert Moderation(unparsable=unparsable).spec.id == f"moderation:unparsable={unparsable}"


def test_unknown_labels_count_nowhere() -> None:
    """A text without a verdict has no overall figure, one without any known label no score, and a missing label is no negative."""
    evaluator = Moderation(taxonomy="openai")
    assert evaluator.score(asked(0, "unsafe", unsafe=None, labels={})) is None
    assert evaluator.score(Sample("1#0", "?", "unsafe")) is None
    found = evaluator.score(asked(2, "unsafe\nhate", unsafe=None, labels={"H": True}))
    assert found is not None
    assert found["H/recall"] == 1
    assert not [name for name in found if name in ("accuracy", "recall", "cell") or name.startswith("S/")]


def test_answers_to_a_question_about_one_category() -> None:
    """Asked for one category alone, the verdict is about that category and about nothing else."""
    meta = {
        "form": "verdict",
        "answer": "each",
        "category": "V",
        "positive": True,
        "unsafe": True,
        "labels": {"V": True, "H": False},
    }
    found = Moderation(taxonomy="openai").score(asked(0, "unsafe", **meta))
    assert found is not None
    assert found["V/recall"] == 1
    assert not [name for name in found if name.startswith("H/") or name in ("accuracy", "recall")]


def test_answers_to_a_question_about_the_verdict_alone() -> None:
    """Who was not asked for categories denies none by naming none."""
    meta = {"form": "verdict", "answer": "verdict", "unsafe": True, "labels": {"V": True}}
    found = Moderation(taxonomy="openai").score(asked(0, "unsafe", **meta))
    assert found is not None
    assert found["recall"] == 1
    assert not [name for name in found if "/" in name]


def test_categories_outside_the_taxonomy() -> None:
    """The verdict holds, and the answer is counted as one that named something else."""
    found = Moderation(taxonomy="openai").score(asked(0, "unsafe\nspam", unsafe=True, labels={"H": True}))
    assert found is not None
    assert (found["outside_taxonomy"], found["accuracy"], found["H/recall"], found["parse_failure"]) == (1, 1, 0, 0)


def test_no_taxonomy_has_no_outside() -> None:
    """Where there are no categories, as in XSTest, none can be a wrong one."""
    found = Moderation().score(
        Sample("0#0", "?", "unsafe\nviolence", meta={"unsafe": True, "taxonomy": "xstest", "categories": {}})
    )
    assert found is not None
    assert "outside_taxonomy" not in found


def test_groups() -> None:
    """Each named part has an accuracy of its own; parts that were not named have none."""
    evaluator = Moderation(groups={"functionality": ("slur_h", "profanity_nh")})
    rows = [("slur_h", True, "unsafe"), ("slur_h", True, "safe"), ("profanity_nh", False, "safe"), ("else", False, "unsafe")]
    samples = [asked(n, answer, unsafe=unsafe, group={"functionality": part}) for n, (part, unsafe, answer) in enumerate(rows)]
    found = figures(evaluator, samples)
    assert found["functionality=slur_h/accuracy"] == 0.5
    assert found["functionality=profanity_nh/accuracy"] == 1
    assert "functionality=else/accuracy" not in found


def test_figures_that_do_not_exist_are_unknown() -> None:
    """Where nothing is flagged there is no precision; where nothing is positive either there is no F1."""
    found = figures(Moderation(), [asked(0, "safe", unsafe=False)])
    assert math.isnan(found["precision"])
    assert math.isnan(found["f1"])
    assert figures(Moderation(), [asked(0, "safe", unsafe=True)])["f1"] == 0


def test_unknown_taxonomy() -> None:
    """A name that is no taxonomy is told with those that are, and so is a category that is named twice."""
    with pytest.raises(ConfigError, match="openai"):
        Moderation(taxonomy="openia")
    with pytest.raises(ConfigError, match="named twice: overall, hate, hate"):
        Moderation(categories=("hate", "hate"))
