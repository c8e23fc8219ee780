"""Chat templates of several shapes, and the rules for those that do not fit."""

from __future__ import annotations

import pytest
from dpoframe_text.templates import Conversation, answer_text

from dpoframe import DataError, Media

ASKED = [{"role": "user", "content": "hi"}]
TURNS = [*ASKED, {"role": "assistant", "content": "yo"}, {"role": "user", "content": "again"}]

BODY = "{% for m in messages %}[{{ m.role }}]{{ m.content }};{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
THINKS = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }};{% endfor %}{% if add_generation_prompt %}[assistant]<think>{% endif %}"
)
STRIPS = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }};{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + BODY
DEAF = "{% for m in messages %}[{{ m.role }}];{% endfor %}"


def test_multi_turn_prompt(tokenizer):
    """All turns of a conversation stand in the prompt; the answer is the rest of the template's text."""
    talk = Conversation(tokenizer, template=BODY)
    assert talk.prompt(TURNS) == "[user]hi;[assistant]yo;[user]again;[assistant]"
    assert talk.response(TURNS, "sure") == "sure;"


def test_system_prompt(tokenizer):
    """The system prompt comes first where the prompt brings none, and a template's refusal is explained."""
    talk = Conversation(tokenizer, template=BODY, system="be brief")
    assert talk.prompt(ASKED) == "[system]be brief;[user]hi;[assistant]"
    own = [{"role": "system", "content": "shout"}, *ASKED]
    assert talk.prompt(own) == "[system]shout;[user]hi;[assistant]"
    assert talk.prompt("plain") == "be brief\n\nplain"
    with pytest.raises(DataError, match="roles system, user: System role not supported"):
        Conversation(tokenizer, template=NO_SYSTEM, system="x").prompt(ASKED)


def test_prompt_that_ends_in_the_assistants_words(tokenizer):
    """A prompt may hold the beginning of the answer: the response goes on there."""
    talk = Conversation(tokenizer, template=BODY)
    begun = [*ASKED, {"role": "assistant", "content": "The answer"}]
    assert talk.prompt(begun, " is 4.") == "[user]hi;[assistant]The answer"
    assert talk.response(begun, " is 4.") == " is 4.;"


def test_template_that_rewrites_the_turn(tokenizer):
    """Where the template's text of prompt and answer does not begin with its prompt, the answer follows the prompt."""
    talk = Conversation(tokenizer, template=THINKS)
    assert talk.prompt(ASKED) == "[user]hi;[assistant]<think>"
    assert talk.response(ASKED, "yo") == "yo;"
    assert talk.response(ASKED, "") == ";"


def test_template_that_trims_answers(tokenizer):
    """A template may trim an answer; what it writes is what is scored."""
    assert Conversation(tokenizer, template=STRIPS).response(ASKED, " yo ") == "yo;"


def test_template_that_drops_the_answer_is_refused(tokenizer):
    """A template that does not write the answer at all is an error that says what to do."""
    with pytest.raises(DataError, match="does not write the answer"):
        Conversation(tokenizer, template=THINKS.replace("{{ m.content }}", "")).response(ASKED, "yo")


@pytest.mark.parametrize(
    ("mode", "prompt", "text", "response"),
    [
        ("auto", "hi", "hi", "yo"),
        ("auto", ASKED, "[user]hi;[assistant]", "yo;"),
        ("always", "hi", "[user]hi;[assistant]", "yo;"),
        ("never", ASKED, "user: hi\nassistant:", " yo"),
        ("never", "hi", "hi", "yo"),
    ],
)
def test_modes(tokenizer, mode, prompt, text, response):
    """`auto` goes by the data, `always` and `never` do not."""
    talk = Conversation(tokenizer, mode, BODY)
    assert (talk.prompt(prompt), talk.response(prompt, "yo")) == (text, response)


def test_messages_without_a_template(byte_tokenizer):
    """Chat messages and a model without a template: the error names both ways out."""
    with pytest.raises(DataError, match=r"chat_template.*chat: never"):
        Conversation(byte_tokenizer()).prompt(ASKED)
    assert Conversation(byte_tokenizer()).end_of_turn() == ""


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ([{"role": "user", "content": "x"}], "role user"),
        ([{"role": "assistant"}], "no content"),
        ([], "empty"),
        (Media("image", data=b"x"), "not media"),
    ],
)
def test_responses_that_cannot_be_scored(response, said):
    """A response that is no text of the assistant's is refused with the reason."""
    with pytest.raises(DataError, match=said):
        answer_text(response)


def test_end_of_turn(tokenizer):
    """What closes a turn is read off the template."""
    assert Conversation(tokenizer).end_of_turn() == "<|end|>\n"
    assert Conversation(tokenizer, template=BODY).end_of_turn() == ";"
    assert Conversation(tokenizer, template=DEAF).end_of_turn() == ""


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ raise_exception.__globals__['os'].system('touch sprung') }}",
        "{{ lipsum.__globals__['os'].popen('touch sprung').read() }}",
        "{% set _ = messages.append({'role': 'user', 'content': 'x'}) %}",
        "{% include '/etc/passwd' %}",
        "{% for i in range(10**12) %}x{% endfor %}",
        "{% for m in messages %}",
    ],
)
def test_templates_that_reach_out_are_refused(template, tokenizer, tmp_path, monkeypatch):
    """A template of a stranger's model reaches neither Python's objects nor files, changes no message, and ends."""
    monkeypatch.chdir(tmp_path)
    asked = [dict(one) for one in ASKED]
    with pytest.raises(DataError, match="The chat template"):
        Conversation(tokenizer, template=template).prompt(asked)
    assert asked == ASKED
    assert not (tmp_path / "sprung").exists()
