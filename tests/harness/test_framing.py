"""System prompts and worked examples: what the model is asked in the end."""

from __future__ import annotations

from typing import Any

import pytest

from dpoframe.harness.suites.framing import Example, Framing
from dpoframe.types import Media

SHOTS = tuple(Example(f"question {letter}", f"answer {letter}") for letter in "abcdef")


def user(text: str) -> dict[str, Any]:
    """A user's turn."""
    return {"role": "user", "content": text}


def test_nothing_changes_nothing() -> None:
    """Without system prompt and examples, strings, messages and media come back as they are."""
    media = Media("image", data=b"x")
    for prompt in ("ask", [user("ask")], media):
        assert Framing().of(prompt, "p") is prompt
    assert Framing(system="Be brief.").of(media, "p") is media


def test_chat_turns() -> None:
    """Messages get the system message first, then each example as two turns, then their own."""
    found = Framing("Be brief.", examples=SHOTS, count=1).of([user("ask")], "p")
    turns = [{"role": "system", "content": "Be brief."}, user("question a"), {"role": "assistant", "content": "answer a"}]
    assert found == [*turns, user("ask")]


def test_own_system_message_stays() -> None:
    """A prompt's own system message stays first and alone."""
    own = [{"role": "system", "content": "Mine."}, user("ask")]
    found: Any = Framing("Be brief.", examples=SHOTS, count=1).of(own, "p")
    assert [turn["content"] for turn in found] == ["Mine.", "question a", "answer a", "ask"]


def test_text() -> None:
    """A string gets examples by the template, and ends where its own response is to begin."""
    framing = Framing("Be brief.", examples=SHOTS, count=2, template="Q: {prompt}\nA: {response}")
    wanted = "Be brief.\n\nQ: question a\nA: answer a\n\nQ: question b\nA: answer b\n\nQ: ask\nA: "
    assert framing.of("ask", "p") == wanted
    assert Framing("Be brief.").of("ask", "p") == "Be brief.\n\nask"


def test_form() -> None:
    """`chat` makes a string a user's turn, `text` writes messages as lines."""
    assert Framing(form="chat").of("ask", "p") == [user("ask")]
    assert Framing(form="text").of([user("ask")], "p") == "user: ask"


def test_braces_are_text() -> None:
    """A prompt or response that holds the template's words is written as it is."""
    framing = Framing(examples=(Example("say {response}", "{prompt}"),), count=1)
    assert framing.of("say {prompt}", "p") == "say {response}\n{prompt}\n\nsay {prompt}\n"


def test_examples_never_give_the_answer_away() -> None:
    """An example that asks what is asked is left out, whether it is text or a message."""
    for prompt in ("question a", [user("question a")]):
        assert Framing(examples=SHOTS, count=6).chosen(prompt, "p") == list(SHOTS[1:])


def test_drawn_examples() -> None:
    """With a seed each prompt has its own examples, the same every time, without repeats; without one all have the first."""
    framing = Framing(examples=SHOTS, count=3, seed=0)
    drawn = {name: framing.chosen("ask", name) for name in "pqrst"}
    assert drawn == {name: framing.chosen("ask", name) for name in "pqrst"}
    assert all(len({one.prompt for one in shots}) == 3 for shots in drawn.values())  # type: ignore[misc]
    assert len({tuple(shots) for shots in drawn.values()}) > 1
    assert Framing(examples=SHOTS, count=3).chosen("ask", "p") == list(SHOTS[:3])


@pytest.mark.parametrize(
    "other",
    [Framing("Be long."), Framing(form="chat"), Framing(examples=SHOTS, count=1), Framing(examples=SHOTS, count=1, seed=1)],
)
def test_digest_follows_content(other: Framing) -> None:
    """Every setting is in the digest; equal settings have equal ones."""
    assert other.digest() != Framing("Be brief.").digest()
    assert Framing("Be brief.").digest() == Framing("Be brief.").digest()
