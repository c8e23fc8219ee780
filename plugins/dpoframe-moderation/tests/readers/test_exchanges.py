"""Data sets of what people and models say to each other, in their published layouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
from dpoframe_moderation.readers import exchanges
from dpoframe_moderation.taxonomy import taxonomy

from dpoframe.testing import DatasetContract

Read = Callable[..., Any]
Write = Callable[..., str]


class TestToxicChat(DatasetContract):
    """The contract of every data set, on rows in ToxicChat's layout."""

    dataset = staticmethod(exchanges.toxic_chat)
    options: ClassVar[Mapping[str, Any]] = exchanges.toxic_chat.example_options  # type: ignore[attr-defined]


class TestBeavertails(DatasetContract):
    """The contract, on rows in BeaverTails' layout."""

    dataset = staticmethod(exchanges.beavertails)
    options: ClassVar[Mapping[str, Any]] = {**exchanges.beavertails.example_options, "answer": "categories"}  # type: ignore[attr-defined]


class TestSafeRlhf(DatasetContract):
    """The contract, on rows in PKU-SafeRLHF's layout."""

    dataset = staticmethod(exchanges.safe_rlhf)
    options: ClassVar[Mapping[str, Any]] = {**exchanges.safe_rlhf.example_options, "form": "label"}  # type: ignore[attr-defined]


class TestAegis(DatasetContract):
    """The contract, on rows in the layout of Aegis 2.0."""

    dataset = staticmethod(exchanges.aegis)
    options: ClassVar[Mapping[str, Any]] = {**exchanges.aegis.example_options, "answer": "categories"}  # type: ignore[attr-defined]


class TestAegisOfTheFirstRelease(TestAegis):
    """The same, on rows in the layout of Aegis 1.0."""

    options: ClassVar[Mapping[str, Any]] = {"path": str(exchanges.aegis.example_options["path"]).replace("aegis2", "aegis1")}  # type: ignore[attr-defined]


def voted(text: str, *votes: str | None) -> dict[str, Any]:
    """A row of Aegis 1.0."""
    labels = {f"labels_{number}": vote for number, vote in enumerate((*votes, None, None, None, None, None)[:5])}
    return {"num_annotations": len(votes), "id": text, "text": text, "text_type": "user_message", **labels}


def asked(name: str, label: str | None, answered: str | None = None, named: str = "", **columns: Any) -> dict[str, Any]:
    """A row of Aegis 2.0, with or without a response."""
    response = None if answered is None else "An answer."
    own = {"id": name, "prompt": name, "response": response, "prompt_label": label, "response_label": answered}
    return {**own, "violated_categories": named, **columns}


def test_toxic_chat(read: Read, write: Write) -> None:
    """Unsafe is what is toxic; jailbreaking is a label of its own, and unknown where it is missing."""
    rows = [
        {"conv_id": "1", "user_input": "a", "model_output": "x", "human_annotation": True, "toxicity": 0, "jailbreaking": 1},
        {"conv_id": "2", "user_input": "b", "model_output": "x", "human_annotation": False, "toxicity": "1"},
        {"conv_id": "3", "user_input": "c", "model_output": "x", "human_annotation": True, "toxicity": None},
    ]
    found = read(exchanges.toxic_chat, write(rows))
    assert found.verdicts == {"a": False, "b": True}
    assert found.labels == [{"toxicity": False, "jailbreaking": True}, {"toxicity": True}]
    assert found.codes == {"unlabelled": 1}


def test_beavertails(read: Read, write: Write) -> None:
    """Question and answer are judged together; a category that is none of the 14, or against the verdict, is refused."""
    own = {"prompt": "Q?", "is_safe": False}
    rows = [
        {**own, "response": "bad", "category": {"self_harm": True, "animal_abuse": False}},
        {**own, "response": "good", "category": {"self_harm": False}, "is_safe": True},
        {**own, "response": "odd", "category": {"piracy": True}},
        {**own, "response": "both", "category": {"self_harm": True}, "is_safe": True},
        {**own, "response": "none", "category": dict.fromkeys(taxonomy("beavertails").categories, False)},
        {**own, "response": "broken", "category": "self_harm"},
        {**own, "response": "open", "is_safe": None},
    ]
    found = read(exchanges.beavertails, write(rows))
    assert found.verdicts == {"User: Q?\nAssistant: bad": True, "User: Q?\nAssistant: good": False}
    assert found.codes == {"outside-taxonomy": 1, "contradiction": 2, "wrong-type": 1, "unlabelled": 1}


def test_safe_rlhf(read: Read, write: Write) -> None:
    """Both answers of a row are texts of their own, with author and severity as group; older rows have no categories."""
    sides = {"response_0": "bad", "response_1": "good", "is_response_0_safe": False, "is_response_1_safe": True}
    rows = [
        {
            "prompt": "Q?",
            **sides,
            "response_0_harm_category": {"White-Collar Crime": True, "Drugs": False},
            "response_0_source": "m",
        },
        {"prompt": "R?", **sides},
    ]
    found = read(exchanges.safe_rlhf, write(rows), answer="categories")
    assert [pair.chosen for pair in found.pairs[:2]] == ["unsafe\nwhite-collar crime", "unsafe\nwhite-collar crime"]
    assert found.pairs[0].meta["group"] == {"author": "m"}
    assert list(found.verdicts.values()) == [True, False, True, False]


def test_aegis_votes(read: Read, write: Write) -> None:
    """Most annotators decide: split ones leave the verdict unknown, and a category that some name and not most is unknown."""
    rows = [
        voted("most", "Violence", "Violence, Profanity", "Safe"),
        voted("few", "Safe", "Safe", "Violence"),
        voted("split", "Safe", "Violence"),
        voted("none", None),
        voted("odd", "Piracy"),
    ]
    found = read(exchanges.aegis, write(rows))
    assert found.verdicts == {"most": True, "few": False}
    assert found.labels[0]["violence"]
    assert "profanity" not in found.labels[0]
    assert found.labels[0]["malware"] is False
    assert found.codes == {"unlabelled": 2, "outside-taxonomy": 1}


@pytest.mark.parametrize(("caution", "verdicts"), [("unsafe", {"a": True}), ("safe", {"a": False}), ("unknown", {})])
def test_aegis_caution(read: Read, write: Write, caution: str, verdicts: dict[str, bool]) -> None:
    """`Needs Caution` alone is unsafe, safe or left out, as is asked for."""
    path = write([voted("a", "Needs Caution", "Needs Caution", "Safe")])
    assert read(exchanges.aegis, path, caution=caution).verdicts == verdicts


def test_aegis_of_the_second_release(read: Read, write: Write) -> None:
    """Categories belong to prompt and response together: of a prompt they are known where the response is not unsafe."""
    rows = [
        asked("p", "unsafe", named="Violence, Sexual (minor)"),
        asked("q", "unsafe", "unsafe", "Violence"),
        asked("r", "safe", "unsafe", "Violence"),
        asked("s", "safe"),
        asked("REDACTED", "unsafe", named="Suicide and Self Harm"),
        asked("t", None),
        asked("u", "odd"),
        asked("v", "unsafe", named="Piracy"),
        asked("w", "unsafe"),
    ]
    found = read(exchanges.aegis, write(rows), form="label")
    labels = {pair.meta["text"]: pair.meta["labels"] for pair in found.pairs}
    assert [key for key, value in labels["p"].items() if value] == ["violence", "sexual_minor"]
    assert "violence" not in labels["q"]
    assert labels["q"]["malware"] is False
    assert not any(labels["r"].values())
    assert labels["w"] == {}
    assert found.codes == {"redacted": 1, "unlabelled": 1, "wrong-label": 1, "outside-taxonomy": 1}


def test_aegis_responses(read: Read, write: Write) -> None:
    """With `side: response` the response is judged with its prompt; rows without one are refused."""
    found = read(exchanges.aegis, write([asked("q", "safe", "unsafe", "Violence"), asked("s", "safe")]), side="response")
    assert found.verdicts == {"User: q\nAssistant: An answer.": True}
    assert found.labels[0]["violence"]
    assert found.codes == {"unlabelled": 1}
