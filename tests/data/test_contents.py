"""Prompts are found where they end, and chat messages are read in all their spellings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpoframe.data.contents import messages_of, shared_messages, shared_text, split_dialogue, turns
from dpoframe.data.rows import RowError


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt"),
    [
        ("The sky is blue.", "The sky is green.", "The sky is"),
        ("The sky is black.", "The sky is blue.", "The sky is"),  # a shared beginning of a word stays in the responses
        ("Count: one two", "Count: one two three", "Count: one"),  # no response may come out empty
        ("Q: a?\n\nA: yes", "Q: a?\n\nA: no", "Q: a?\n\nA:"),
        ("Say it: yes", "Say it:\nno", "Say it:"),  # both go on with white space, though not the same
    ],
)
def test_shared_text(chosen, rejected, prompt):
    """The prompt ends before the last white space that both texts share, and nothing is lost."""
    found, first, second = shared_text(chosen, rejected)
    assert found == prompt
    assert (found + first, found + second) == (chosen, rejected)


@given(st.text(alphabet="ab \n", max_size=12), st.text(alphabet="ab \n", max_size=8), st.text(alphabet="ab \n", max_size=8))
def test_shared_text_loses_nothing(head, one, two):
    """For any two texts: prompt and response together are the text, the prompt is not blank, and it ends no word midway."""
    try:
        prompt, first, second = shared_text(head + one, head + two)
    except RowError as fault:
        expected = "identical" if one == two else "prompt-missing"
        if fault.code != expected:
            raise
        return
    assert (prompt + first, prompt + second) == (head + one, head + two)
    assert prompt.strip()
    assert first[:1].isspace()
    assert second[:1].isspace()


def test_shared_messages():
    """All but the diverging tails is the prompt, over any number of turns."""
    a, b, c, d = ({"role": "user", "content": text} for text in "abcd")
    assert shared_messages([a, b, c], [a, b, d, c]) == ([a, b], [c], [d, c])
    with pytest.raises(RowError, match="share no first message"):
        shared_messages([a], [b])
    with pytest.raises(RowError, match="the same"):
        shared_messages([a, b], [a, b])


def test_turns():
    """A transcript becomes messages; two turns of one speaker become one."""
    text = "\n\nHuman: One.\n\nHuman: Two.\n\nAssistant: Three.\n\nHuman: Four.\n\nAssistant:"
    found = [(message["role"], message["content"]) for message in turns(text)]
    assert found == [("user", "One.\n\nTwo."), ("assistant", "Three."), ("user", "Four.")]
    assert split_dialogue(text + " Five.", "chosen") == (text, " Five.")


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "empty-chosen"),
        ("text", "wrong-type"),
        (7, "wrong-type"),
        ([["user", "hi"]], "wrong-type"),
        ([{"content": "hi"}], "wrong-type"),
        ([{"role": "user", "content": {"text": "hi"}}], "wrong-type"),
        ([{"role": "user", "content": None}], "wrong-type"),
        ([{"role": "wizard", "content": "hi"}], "unknown-role"),
    ],
)
def test_wrong_messages(value, code):
    """What is not a list of messages is refused with a code, however it is nested."""
    with pytest.raises(RowError) as caught:
        messages_of({"chosen": value}, "chosen", "chosen")
    assert caught.value.code == code


def test_spellings():
    """from/value and role/content are read alike; tool calls need no text; picture parts stay as they are."""
    parts = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
    value = [{"from": "Human", "value": "hi"}, {"role": "assistant", "tool_calls": [1]}, {"role": "user", "content": parts}]
    found = messages_of({"m": value}, "m", "prompt")
    assert found[0] == {"role": "user", "content": "hi"}
    assert found[1] == {"role": "assistant", "content": "", "tool_calls": [1]}
    assert found[2]["content"] == parts
