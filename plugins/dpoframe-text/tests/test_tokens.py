"""Borders between prompt and response, beginnings and ends, and truncation."""

from __future__ import annotations

from pathlib import Path

import pytest
from dpoframe_text.tokens import Encoder, TextFormat, partners
from hypothesis import given, settings
from hypothesis import strategies as st

from dpoframe import DataError, Example

BOS, EOS, END = 0, 1, 2

texts = st.text(st.characters(codec="utf-8", exclude_characters="<|"), max_size=40)
pieces = st.lists(st.sampled_from(["the", " ", "cat", "\n", "é", "日", "1", "."]), max_size=12).map("".join)


def encoded(tokenizer, prompt, response, **form):
    """One example in tokens."""
    return Encoder(tokenizer, TextFormat(**form)).encode([Example(prompt, response, 0, "a")])[0]


def user(text):
    """A prompt of one message."""
    return [{"role": "user", "content": text}]


@settings(max_examples=60, deadline=None)
@given(prompt=texts, one=pieces, two=pieces)
def test_prompt_tokens_do_not_depend_on_the_response(tokenizer, prompt, one, two):
    """Whatever follows, a prompt has the same tokens, and the whole decodes to the text that was given."""
    encoder = Encoder(tokenizer, TextFormat(max_length=4096))
    first, second = encoder.encode([Example(prompt, one, 0, "a"), Example(prompt, two, 0, "a")])
    assert first.prompt == second.prompt
    assert tokenizer.decode(first.prompt[1:] + first.response[:-1]) == prompt + one
    assert tokenizer.decode(second.prompt[1:] + second.response[:-1]) == prompt + two


@settings(max_examples=60, deadline=None)
@given(shared=pieces, one=pieces, two=pieces)
def test_a_shared_beginning_moves_no_token(tokenizer, shared, one, two):
    """Responses are tokenised from their own text alone: the prompt's end changes none of their tokens."""
    assert encoded(tokenizer, shared, one + two).response == encoded(tokenizer, "", one + two).response


@settings(max_examples=40, deadline=None)
@given(prompt=texts, one=pieces, two=pieces)
def test_chat_prompt_does_not_depend_on_the_response(tokenizer, prompt, one, two):
    """The same holds of prompts that a chat template writes; the border is where generation begins."""
    encoder = Encoder(tokenizer, TextFormat(max_length=4096))
    first, second = encoder.encode([Example(user(prompt), text, 0, "a") for text in (one, two)])
    assert first.prompt == second.prompt == encoder.prompts([user(prompt)])[0]
    assert tokenizer.decode(first.prompt + first.response) == f"<s><|user|>\n{prompt}<|end|>\n<|assistant|>\n{one}<|end|>"


@settings(max_examples=60, deadline=None)
@given(
    prompt=texts, response=texts, limit=st.integers(2, 40), cap=st.integers(1, 39), cut=st.sampled_from(["keep_end", "keep_start"])
)
def test_truncation_keeps_the_limits_and_the_common_prompt(tokenizer, prompt, response, limit, cap, cut):
    """Prompt and response stay within their limits, the beginning token stays, and two responses see one prompt."""
    form = TextFormat(max_length=limit, max_prompt_length=min(cap, limit - 1), truncate_prompt=cut)
    full = Encoder(tokenizer, TextFormat(max_length=10_000)).encode([Example(prompt, response, 0, "a")])[0]
    encoder = Encoder(tokenizer, form)
    one, other = encoder.encode([Example(prompt, response, 0, "a"), Example(prompt, response + " more and more", 0, "a")])
    assert one.prompt == other.prompt
    assert 1 <= len(one.prompt) <= encoder.prompt_limit
    assert len(one.prompt) + len(one.response) <= limit
    assert one.response == full.response[: len(one.response)]
    assert one.truncated == ((one.prompt, one.response) != (full.prompt, full.response))
    assert (one.response[-1:] == (EOS,)) == (one.response == full.response)


def test_the_prompts_beginning_token_survives_a_cut(tokenizer):
    """Keeping the end of a prompt keeps its beginning-of-text token; keeping the start keeps the assistant's opening."""
    words = "the cat sat on the mat " * 20
    ended = encoded(tokenizer, words, "x", max_length=40, max_prompt_length=20)
    assert ended.prompt[0] == BOS
    assert ended.prompt[1:] == encoded(tokenizer, words, "x", max_length=4096).prompt[-19:]
    started = encoded(tokenizer, user(words), "x", max_length=60, max_prompt_length=30, truncate_prompt="keep_start")
    assert len(started.prompt) == 30
    assert tokenizer.decode(started.prompt).startswith("<s><|user|>\nthe cat sat")
    assert tokenizer.decode(started.prompt).endswith("<|assistant|>\n")


@pytest.mark.parametrize("adds", [True, False])
def test_beginning_token_is_there_once(byte_tokenizer, adds):
    """The beginning-of-text token stands where the tokenizer puts it, once, also where the text brings it."""
    tokenizer = byte_tokenizer(adds_bos=adds)
    assert encoded(tokenizer, "the cat", "x").prompt.count(BOS) == int(adds)
    assert encoded(tokenizer, "<s>the cat", "x").prompt.count(BOS) == 1
    assert encoded(tokenizer, "", "x").prompt == (BOS,)


def test_end_token_is_there_once(byte_tokenizer):
    """The end-of-text token closes a response once: where the tokenizer adds one itself, and where the text brings it."""
    for tokenizer in (byte_tokenizer(), byte_tokenizer(adds_eos=True)):
        for response in ("the cat", "the cat</s>"):
            tokens = encoded(tokenizer, "a dog", response)
            assert tokens.prompt.count(EOS) == 0
            assert tokens.response.count(EOS) == 1
            assert tokens.response[-1] == EOS


def test_end_token_can_be_left_out(tokenizer):
    """With append_eos off neither the end-of-text token nor the template's mark closes a response."""
    assert EOS not in encoded(tokenizer, "a", "the cat", append_eos=False).response
    assert (
        encoded(tokenizer, user("a"), "the cat", append_eos=False).response
        == encoded(tokenizer, "a", "the cat", append_eos=False).response
    )


def test_template_closes_with_its_own_mark(tokenizer):
    """A template's end-of-turn mark ends the response, once; the line feed behind it is never generated, so not scored."""
    for answer in ("the cat", "the cat</s>", [{"role": "assistant", "content": "the cat"}]):
        assert encoded(tokenizer, user("a"), answer).response == (
            *encoded(tokenizer, "", "the cat", append_eos=False).response,
            END,
        )
    assert Encoder(tokenizer, TextFormat()).end_ids == (EOS, END)


def test_template_that_closes_with_nothing_gets_the_end_token(byte_tokenizer, chat_template):
    """Where a template writes no end mark, the end-of-text token ends the response."""
    tokenizer = byte_tokenizer(template=chat_template.replace("<|end|>", ""))
    assert encoded(tokenizer, user("a"), "the cat").response[-1] == EOS


def test_tokenizers_without_special_tokens(tokenizer, byte_tokenizer):
    """Without an end-of-text token none is added; without any token to begin with, an empty prompt is an error."""
    bare = byte_tokenizer(bos=False, eos=False)
    assert encoded(bare, "a", "the cat").response == encoded(tokenizer, "a", "the cat", append_eos=False).response
    assert encoded(bare, "a", "x").prompt == encoded(tokenizer, "a", "x").prompt[1:]
    with pytest.raises(DataError, match="no beginning-of-text token"):
        encoded(bare, "", "x")
    assert encoded(byte_tokenizer(bos=False), "", "x").prompt == (EOS,)


def test_tokenizer_that_puts_a_space_before_texts(stories: Path):
    """Where a tokenizer puts a space before every text, a response that goes on gets none."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(stories)
    whole = tokenizer("Once upon a time there was")["input_ids"]
    for prompt, response in (("Once upon a", " time there was"), ("Once upon a time", " there was")):
        tokens = encoded(tokenizer, prompt, response)
        assert list(tokens.prompt + tokens.response[:-1]) == whole
    tokens = encoded(tokenizer, "Once up", "on a time")
    assert tokenizer.decode(tokens.prompt + tokens.response, skip_special_tokens=True) == "Once upon a time"
    encoder = Encoder(tokenizer, TextFormat())
    assert encoder.decode(encoder.prompts(["Once upon"])[0], encoded(tokenizer, "Once upon", " a time").response) == " a time"


def test_limit_is_the_models_where_that_is_lower(tokenizer):
    """No example is longer than the model's own context."""
    assert Encoder(tokenizer, TextFormat(max_length=1024), context=16).limit == 16


def test_batches_encode_as_single_examples_do(tokenizer):
    """Encoding many examples at once gives what one at a time gives, in order."""
    examples = [Example(prompt, text, 0, "a") for prompt in ("a dog", user("a dog"), "") for text in ("the", " mat", "the cat sat")]
    one_by_one = [Encoder(tokenizer, TextFormat()).encode([example])[0] for example in examples]
    encoder = Encoder(tokenizer, TextFormat())
    assert encoder.encode(examples) == one_by_one == encoder.encode(examples)


def test_digest_knows_what_decides_tokens(tokenizer, byte_tokenizer, chat_template):
    """The digest changes with tokenizer, template and limits, and with nothing else."""
    digests = {
        Encoder(tokenizer, form).digest
        for tokenizer in (tokenizer, byte_tokenizer(adds_bos=False), byte_tokenizer())
        for form in (TextFormat(), TextFormat(max_length=8), TextFormat(system="x"), TextFormat(append_eos=False))
    }
    assert len(digests) == 12
    assert Encoder(byte_tokenizer(template=chat_template), TextFormat()).digest == Encoder(tokenizer, TextFormat()).digest


def test_partners_are_the_two_of_a_pair():
    """Two examples of one name are partners; one alone or three together have none."""
    assert partners(["a", "b", "c", "a", "b", "b"]) == [3, None, None, 0, None, None]
    assert partners(["a", "b", "a", "a", "b", "a"]) == [3, 4, 5, 0, 1, 2]


def test_cut_off_answers_have_no_end(tokenizer):
    """An answer that is not finished is the finished one's tokens without the end, in plain text and in chat."""
    encoder = Encoder(tokenizer, TextFormat())
    for prompt in ("the", user("the")):
        whole, cut = encoder.encode([Example(prompt, " cat", 0, "a"), Example(prompt, " cat", 0, "a", finished=False)])
        assert whole.response[:-1] == cut.response
        assert whole.response[-1] in encoder.end_ids
