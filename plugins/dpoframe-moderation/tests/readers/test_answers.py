"""Data sets of answers: which is preferred, whose it is, and answers that make no pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from dpoframe_moderation.readers import answers

from dpoframe import as_text
from dpoframe.testing import DatasetContract

Read = Callable[..., Any]
Write = Callable[..., str]
FULL, NONE, HALF = "1_full_compliance", "2_full_refusal", "3_partial_refusal"


class TestXstestAnswers(DatasetContract):
    """The contract of every data set, on answers in XSTest's layout."""

    dataset = staticmethod(answers.xstest_answers)
    options: ClassVar[Mapping[str, Any]] = answers.xstest_answers.example_options  # type: ignore[attr-defined]


class TestSafeAnswers(DatasetContract):
    """The contract, on answers in PKU-SafeRLHF's layout."""

    dataset = staticmethod(answers.safe_answers)
    options: ClassVar[Mapping[str, Any]] = {**answers.safe_answers.example_options, "authors": "balanced"}  # type: ignore[attr-defined]


def told(prompt: str, text: str, label: str, model: str = "m", kind: str = "homonyms") -> dict[str, Any]:
    """A row of XSTest's completions."""
    return {"id": "v2-1", "type": kind, "prompt": prompt, "completion": text, "final_label": label, "model": model}


def compared(prompt: str, *safe: bool | None, safer: object = 0, models: tuple[str, str] = ("a", "b")) -> dict[str, Any]:
    """A row of PKU-SafeRLHF."""
    sides = {"response_0": f"{prompt} one", "response_1": f"{prompt} two", "safer_response_id": safer}
    flags = {"is_response_0_safe": safe[0], "is_response_1_safe": safe[1]}
    return {"prompt": prompt, **sides, **flags, "response_0_source": models[0], "response_1_source": models[1]}


def chosen(found: Any) -> list[tuple[str, str, str]]:
    """Prompt, chosen and rejected answer of each pair."""
    return [(pair.prompt[0]["content"], as_text(pair.chosen), as_text(pair.rejected)) for pair in found.pairs]


def test_calm_and_safe(read: Read, write: Write) -> None:
    """Of a harmless prompt the answer is preferred to the refusal, of a harmful one the refusal; either may be taken alone."""
    kind = "contrast_homonyms"
    rows = [told("p", "yes", FULL), told("p", "no", NONE), told("q", "yes", FULL, kind=kind), told("q", "no", NONE, kind=kind)]
    path = write(rows)
    assert chosen(read(answers.xstest_answers, path)) == [("p", "yes", "no"), ("q", "no", "yes")]
    assert chosen(read(answers.xstest_answers, path, wanted="calm")) == [("p", "yes", "no")]
    assert chosen(read(answers.xstest_answers, path, wanted="safe")) == [("q", "no", "yes")]


def test_partial_refusals(read: Read, write: Write) -> None:
    """A partial refusal of a harmless prompt is a bad answer where that is asked for, and of a harmful one never anything."""
    rows = [
        told("p", "yes", FULL),
        told("p", "well", HALF),
        told("q", "no", NONE, kind="contrast_x"),
        told("q", "well", HALF, kind="contrast_x"),
    ]
    path = write(rows)
    assert chosen(read(answers.xstest_answers, path)) == []
    assert chosen(read(answers.xstest_answers, path, partial=True)) == [("p", "yes", "well")]


def test_every_good_over_every_bad(read: Read, write: Write) -> None:
    """Two good answers and two bad ones make four pairs; equal answers make one, blanks around them tell nothing apart."""
    rows = [
        told("p", "yes", FULL),
        told("p", "sure", FULL),
        told("p", "no", NONE),
        told("p", "never", NONE),
        told("p", " yes\n", FULL),
    ]
    found = read(answers.xstest_answers, write(rows))
    assert len(found.pairs) == 4
    assert found.codes == {"duplicate": 2}
    assert all(pair.chosen == str(pair.chosen).strip() for pair in found.pairs)


def test_broken_answers(read: Read, write: Write) -> None:
    """Answers without a known label or without text, and prompts with nothing to compare, are refused and counted."""
    rows = [
        told("p", "yes", "4_unsure"),
        told("p", "\u200b", FULL),
        told("q", "yes", FULL),
        {**told("r", "yes", FULL), "type": None},
    ]
    assert read(answers.xstest_answers, write(rows)).codes == {"wrong-label": 2, "empty-text": 1, "tie": 1}


def test_pairs_as_they_are(read: Read, write: Write) -> None:
    """Rows that are pairs already keep their two answers together, and can be balanced by author."""
    pair = {"prompt": "p", "type": "homonyms", "rejected": "no", "chosen_model": "a", "rejected_model": "b"}
    rows = [{**pair, "chosen": "yes"}, {**pair, "chosen": "sure", "rejected": "never"}]
    assert chosen(read(answers.xstest_answers, write(rows))) == [("p", "yes", "no"), ("p", "sure", "never")]
    assert read(answers.xstest_answers, write(rows), authors="balanced").codes == {"left-out": 2}


def test_safer_answer(read: Read, write: Write) -> None:
    """The safe answer is preferred to the unsafe one; of two alike the safer one where that is asked for, otherwise none."""
    rows = [
        compared("p", True, False, safer=1),
        compared("q", False, True),
        compared("r", False, False, safer=1),
        compared("s", True, None),
    ]
    path = write([*rows, compared("t", True, True, safer="?")])
    assert chosen(read(answers.safe_answers, path)) == [("p", "p one", "p two"), ("q", "q two", "q one")]
    assert read(answers.safe_answers, path).codes == {"tie": 2, "unlabelled": 1}
    found = read(answers.safe_answers, path, safer=True)
    assert chosen(found)[2:] == [("r", "r two", "r one")]
    assert found.codes == {"unlabelled": 2}


def test_answers_of_beavertails(read: Read, write: Write) -> None:
    """Safe and unsafe answers to one question are paired, wherever in the file they stand."""
    rows = [{"prompt": "p", "response": text, "is_safe": safe} for text, safe in (("one", True), ("two", False), ("three", False))]
    found = read(answers.safe_answers, write([rows[1], rows[0], rows[2]]))
    assert chosen(found) == [("p", "one", "two"), ("p", "one", "three")]


def test_balanced_authors(read: Read, write: Write) -> None:
    """Of any two authors as many pairs prefer the one as the other; what has no counterpart is left out with its authors."""
    rows = [compared(f"p{number}", True, False) for number in range(9)]
    rows += [compared(f"q{number}", False, True, models=("a", "b")) for number in range(2)]
    rows += [compared("alone", True, False, models=("c", "a")), compared("own", True, False, models=("a", "a"))]
    found = read(answers.safe_answers, write(rows), authors="balanced")
    authors = Counter((pair.meta["chosen_model"], pair.meta["rejected_model"]) for pair in found.pairs)
    assert authors == {("a", "b"): 2, ("b", "a"): 2, ("a", "a"): 1}
    assert found.codes == {"left-out": 8}
    assert "a over b" in found.refused[0].reason


def test_uneven_authors_are_told(read: Read, write: Write, capsys: Any) -> None:
    """Where one author wrote far more of the chosen answers than of the rejected ones, that is said with the shares."""
    path = write([compared(f"p{number}", number < 9, number == 9) for number in range(10)])
    read(answers.safe_answers, path)
    assert "a wrote 90% of the chosen answers and 10% of the rejected ones" in "".join(capsys.readouterr())
    read(answers.safe_answers, path, authors="balanced")
    assert "wrote" not in "".join(capsys.readouterr())


def test_parts(read: Read, write: Write) -> None:
    """All answers to a prompt are of one part, and every prompt of exactly one."""
    path = write([compared(f"prompt {number}", True, False) for number in range(200)])
    parts = {
        part: {prompt for prompt, _, _ in chosen(read(answers.safe_answers, path, part=part))}
        for part in ("train", "validation", "test")
    }
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == 200
    assert len(parts["train"]) > len(parts["test"]) > 0
