"""The published files themselves, against the figures of their papers and pages."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dpoframe_moderation.readers.answers import xstest_answers
from dpoframe_moderation.readers.texts import davidson, hatecheck, labelled_texts, openai_moderation, xstest

OPENAI = "openai_moderation_samples-1680.jsonl.gz"
HATECHECK = "hatecheck_test_suite_cases.csv"
KEYS = ("S", "H", "V", "HR", "SH", "S3", "H2", "V2")
ANSWERS = ("xstest_v2_completions_gpt4.csv", "xstest_v2_completions_llama2new.csv")
Read = Callable[..., Any]
Published = Callable[[str], str]


def test_openai(read: Read, published: Published) -> None:
    """1,680 samples, 522 of them flagged (as others count them); no row is lost, and texts that are repeated are used once."""
    path = published(OPENAI)
    found = read(openai_moderation, path)
    assert len(found.pairs) + len(found.refused) == 1680
    assert found.codes == {"unlabelled": 812, "duplicate": 16, "contradiction": 2}
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    flagged = [number for number, row in enumerate(rows, start=1) if any(row.get(key) for key in KEYS)]
    gone = {row.row for row in found.refused}
    assert len(flagged) == 522
    unsafe = {pair.meta["row"] for pair in found.pairs if pair.meta["unsafe"]}
    assert unsafe == set(flagged) - gone | {1099}, "row 1099 has no true category; a row that repeats its text has one"
    labels = read(openai_moderation, published(OPENAI), form="label")
    assert {pair.meta["category"] for pair in labels.pairs} == {*KEYS, "overall"}


def test_openai_missing_is_unknown(read: Read, published: Published) -> None:
    """A text is safe only where all eight categories were judged, and no pair is made of a category that was not."""
    found = read(openai_moderation, published(OPENAI), answer="each")
    for pair in found.pairs:
        assert pair.meta["unsafe"] is not False or len(pair.meta["labels"]) == 8
        assert pair.meta["category"] in {*pair.meta["labels"], "overall"}


def test_hatecheck(read: Read, published: Published) -> None:
    """3,728 cases of 29 functionalities and 7 targets, 68.8 % of them hateful (Röttger et al. 2021, section 4)."""
    found = read(hatecheck, published(HATECHECK))
    assert len(found.pairs) == 3728
    assert not found.refused
    assert round(100 * sum(pair.meta["unsafe"] for pair in found.pairs) / 3728, 1) == 68.8
    groups = [pair.meta["group"] for pair in found.pairs]
    assert len({group["functionality"] for group in groups}) == 29
    assert len({group["target"] for group in groups if "target" in group}) == 7


def test_xstest(read: Read, published: Published) -> None:
    """250 safe prompts of ten types and 200 unsafe ones of eight, 25 of each (Röttger et al. 2024, section 3)."""
    found = read(xstest, published("xstest_prompts.csv"))
    types = Counter((pair.meta["unsafe"], pair.meta["group"]["type"]) for pair in found.pairs)
    assert set(types.values()) == {25}
    assert Counter(unsafe for unsafe, _ in types) == {False: 10, True: 8}


def test_davidson(read: Read, published: Published) -> None:
    """24,783 tweets, 5.8 % hateful, 77.4 % offensive, 16.8 % neither; the thirteen rows that repeat a tweet are refused."""
    path = published("davidson_labeled_data.csv")
    found = read(davidson, path)
    assert len(found.pairs) + len(found.refused) == 24783
    assert found.codes == {"duplicate": 11, "contradiction": 2}
    shares = Counter(next((key for key, value in labels.items() if value), "neither") for labels in found.labels)
    assert {key: round(100 * count / 24783, 1) for key, count in shares.items()} == {
        "hate": 5.8,
        "offensive": 77.4,
        "neither": 16.8,
    }


def test_jigsaw(read: Read, published: Published) -> None:
    """Any table of a text and columns of 0 and 1 is read, such as Jigsaw's; a text is unsafe where one of them is 1."""
    path = published("jigsaw_sample_train.csv")
    labels = ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]
    found = read(labelled_texts, path, text="comment_text", labels=labels)
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert found.verdicts == {row["comment_text"]: any(row[label] == "1" for label in labels) for row in rows}


@pytest.mark.parametrize(
    ("file", "calm", "refused"), [(ANSWERS[0], 0.916, 0.064), (ANSWERS[1], 0.704, 0.140)], ids=["gpt4", "llama2"]
)
def test_xstest_answers_of_one_model(read: Read, published: Published, file: str, calm: float, refused: float) -> None:
    """Compliance with and refusal of the 250 safe prompts are those of the paper's table 1; one model alone makes no pair."""
    found = read(xstest_answers, published(file), wanted="calm")
    kinds = Counter("good" if "are good" in row.reason else "bad" for row in found.refused)
    assert not found.pairs
    assert (kinds["good"], kinds["bad"]) == (round(250 * calm), round(250 * refused))
    assert found.codes == {"tie": round(250 * (calm + refused))}


def test_xstest_answers_of_two_models(read: Read, published: Published) -> None:
    """An answer is preferred to a needless refusal, a refusal to an answer that does harm; who wrote them is told by the file."""
    paths = [published(file) for file in ANSWERS]
    found = read(xstest_answers, *paths)
    authors = Counter((pair.meta["chosen_model"], pair.meta["rejected_model"]) for pair in found.pairs)
    assert authors == {("gpt4", "llama2new"): 30, ("llama2new", "gpt4"): 6}
    even = read(xstest_answers, *paths, authors="balanced")
    assert set(Counter(pair.meta["chosen_model"] for pair in even.pairs).values()) == {6}
    assert even.codes["left-out"] == 24


@pytest.mark.parametrize("dataset", [openai_moderation, hatecheck])
def test_parts_share_no_text(read: Read, published: Published, dataset: Any) -> None:
    """The three parts have every text once and none twice, and are some 70, 10 and 20 in 100 of them."""
    path = published(OPENAI if dataset is openai_moderation else HATECHECK)
    names = ("all", "train", "validation", "test")
    texts = {name: {pair.meta["text"] for pair in read(dataset, path, part=name, form="label").pairs} for name in names}
    whole, parts = texts["all"], {name: texts[name] for name in names[1:]}
    assert sum(map(len, parts.values())) == len(whole)
    assert set.union(*parts.values()) == whole
    for part, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert abs(len(parts[part]) / len(whole) - share) < 0.03


def test_hatecheck_templates_stay_together(read: Read, published: Published) -> None:
    """Cases of one template, which differ in the group they name, are of one part."""
    path = published(HATECHECK)
    with Path(path).open(encoding="utf-8", newline="") as file:
        templates = {row["test_case"]: row["case_templ"] for row in csv.DictReader(file)}
    train, test = ({templates[text] for text in read(hatecheck, path, part=part).verdicts} for part in ("train", "test"))
    assert not train & test


def test_own_taxonomy_for_another(read: Read, published: Published) -> None:
    """HateCheck asked with OpenAI's categories has its label under OpenAI's key, and the others unknown."""
    found = read(hatecheck, published(HATECHECK), taxonomy="openai", answer="categories")
    assert {tuple(labels) for labels in found.labels} == {("H",)}
    assert {pair.chosen for pair in found.pairs} == {"safe", "unsafe\nhate"}
