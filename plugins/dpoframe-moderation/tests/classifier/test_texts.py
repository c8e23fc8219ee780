"""How texts become tokens: too long ones, invisible characters, names of special tokens, none at all."""

from __future__ import annotations

import pytest
import torch
from dpoframe_moderation.classifier.modality import TextClassifier

from dpoframe import DataError, Example, Media, Request

from .conftest import LABELS


def tokens(modality, text):
    """The ids that the model is given, without padding."""
    batch = modality.collate([Example(text, "hate", 0, "a")])
    return batch.inputs["input_ids"][0].tolist()


@pytest.mark.parametrize("family", ["encoder", "decoder"])
def test_long_texts_are_cut_and_counted(family, request):
    """A text over the limit keeps its beginning, or its end where asked, with the marks around it; `measure` says so."""
    folder = str(request.getfixturevalue(family))
    whole = TextClassifier(folder, LABELS)
    text = "i hate the dog and all people"
    ids = tokens(whole, text)
    marks = 2 if family == "encoder" else 0
    head, tail = ids[: marks // 2], ids[len(ids) - marks // 2 :]
    inner = ids[marks // 2 : len(ids) - marks // 2]
    for cut, kept in (("keep_start", inner[: 5 - marks]), ("keep_end", inner[len(inner) - 5 + marks :])):
        modality = TextClassifier(folder, LABELS, max_length=5, truncate=cut)
        assert tokens(modality, text) == [*head, *kept, *tail]
        measured = modality.measure(Example(text, "hate", 0, "a"))
        assert (measured.prompt, measured.response, measured.truncated) == (5, 1, True)
    assert not whole.measure(Example(text, "hate", 0, "a")).truncated


def test_the_models_context_is_the_limit(encoder):
    """A text longer than the model's positions (24) is cut to them, whatever max_length says."""
    modality = TextClassifier(str(encoder), LABELS, max_length=4096)
    measured = modality.measure(Example("dog " * 100, "hate", 0, "a"))
    assert (measured.prompt, measured.truncated) == (24, True)
    with torch.no_grad():
        assert modality.score(modality.build(), modality.collate([Example("dog " * 100, "hate", 0, "a")])).value.isfinite().all()


def test_invisible_characters(encoder):
    """Zero-width and control characters and full-width letters do not hide a word; with `clean: false` they reach the model."""
    modality = TextClassifier(str(encoder), LABELS)
    plain = tokens(modality, "i hate you")
    for hidden in ("i h\u200ba\u200cte you", "i ha\x07te\ufeff you", "i \uff48\uff41\uff54\uff45 you", "\u202ei hate\u2060 you"):
        assert tokens(modality, hidden) == plain
        assert tokens(TextClassifier(str(encoder), LABELS, clean=False), hidden) != plain
    (sample,) = modality.generate(modality.build(), [Request("r", "i h\u200ba\u200cte you")])
    assert sample.detail["hidden"] == 2


@pytest.mark.parametrize("family", ["encoder", "decoder"])
def test_names_of_special_tokens_are_text(family, request):
    """Nobody ends a post early by writing a special token into it."""
    modality = TextClassifier(str(request.getfixturevalue(family)), LABELS)
    found = tokens(modality, "i hate [SEP] [PAD] you")
    assert found.count(3) == (1 if family == "encoder" else 0)
    assert 0 not in found[1:]


@pytest.mark.parametrize("family", ["encoder", "decoder"])
@pytest.mark.parametrize("text", ["", " \n", "\u200b\u200b"])
def test_texts_without_anything(family, text, request):
    """An empty text, or one of invisible characters alone, is scored and answered like any other, alone and beside others."""
    modality = TextClassifier(str(request.getfixturevalue(family)), LABELS)
    model = modality.build().eval()
    with torch.no_grad():
        alone = modality.score(model, modality.collate([Example(text, "hate", 0, "a")])).value
        both = modality.score(model, modality.collate([Example(text, "hate", 0, "a"), Example("i hate you", "hate", 0, "b")])).value
    torch.testing.assert_close(both[:1], alone, rtol=1e-5, atol=1e-6)
    assert next(modality.generate(model, [Request("r", text)])).response


def test_chat_messages(encoder):
    """Of chat messages the last one of the user is judged; what is no text is refused."""
    modality = TextClassifier(str(encoder), LABELS)
    chat = [
        {"role": "user", "content": "have a nice day"},
        {"role": "assistant", "content": "all good"},
        {"role": "user", "content": "i hate you"},
    ]
    assert tokens(modality, chat) == tokens(modality, "i hate you")
    for wrong in (Media("image", data=b"x"), [{"role": "user", "content": [{"type": "image"}]}], []):
        with pytest.raises(DataError, match="classifier takes"):
            modality.measure(Example(wrong, "hate", 0, "a"))
