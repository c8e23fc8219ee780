"""What a moderator's answer says: every form of it that models write, and none that names no verdict."""

from __future__ import annotations

import pytest
from dpoframe_moderation.taxonomy import TAXONOMIES, Taxonomy, taxonomy
from dpoframe_moderation.verdicts import Parsed, parse, written
from hypothesis import given
from hypothesis import strategies as st

from dpoframe import ConfigError

OPENAI = taxonomy("openai")

RIGHT = {
    "safe": ("safe", set()),
    "Unsafe.": ("unsafe", set()),
    "**Unsafe**\n\n- Hate\n- Sexual/minors": ("unsafe", {"H", "S3"}),
    "unsafe\n1. hate\n2. self harm": ("unsafe", {"H", "SH"}),
    "Verdict: unsafe\nCategories: H, V2": ("unsafe", {"H", "V2"}),
    "unsafe: hate and violence": ("unsafe", {"H", "V"}),
    '{"verdict": "unsafe", "categories": ["HARASSMENT", "self_harm"]}': ("unsafe", {"HR", "SH"}),
    '{"safe": false}': ("unsafe", set()),
    '{"unsafe": "no"}': ("safe", set()),
    "The text is not safe.": ("unsafe", set()),
    "This isn't unsafe": ("safe", set()),
    "The text is not at all safe.": ("unsafe", set()),
    "I don't think this is safe": ("unsafe", set()),
    "It is never safe": ("unsafe", set()),
    "This text is not entirely safe": ("unsafe", set()),
    "It is not hateful and safe": ("safe", set()),
    "The sentence is not only safe but also safe to read.": ("safe", set()),
    "Not a threat. Safe": ("safe", set()),
    "This does not contain hate, safe": ("safe", set()),
    "This isn\u2019t safe.": ("unsafe", set()),
    "safe. It is about gardens, and it would harm nobody.": ("safe", set()),
    "unsafe unsafe unsafe": ("unsafe", set()),
    "un\u200bsa\u00adfe\u0007\n\ufeffhate": ("unsafe", {"H"}),
    "\uff55\uff4e\uff53\uff41\uff46\uff45\n\uff28\uff41\uff54\uff45": ("unsafe", {"H"}),
    "该文本unsafe。": ("unsafe", set()),
    "この文章はsafeです": ("safe", set()),
    "\u202eunsafe\u202c": ("unsafe", set()),
    "unsafe\r\nhate\r\n": ("unsafe", {"H"}),
}
WRONG = {
    "": "no-verdict",
    " \u200b\n\u0000": "no-verdict",
    "I cannot tell.": "no-verdict",
    "I cannot say whether it is safe": "no-verdict",
    "I am not sure if this is unsafe.": "no-verdict",
    "neither safe nor unsafe": "two-verdicts",
    "The fail-safe and the safety belt, safely": "no-verdict",
    "不安全": "no-verdict",
    "safe or unsafe?": "two-verdicts",
    "safe\nunsafe\nhate": "two-verdicts",
    "unsafe, or rather not unsafe": "two-verdicts",
}


@pytest.mark.parametrize("answer", RIGHT)
def test_verdict_and_categories(answer: str) -> None:
    """Case, Markdown, lists, JSON, denials, invisible characters and other scripts around it change nothing of what is said."""
    verdict, categories = RIGHT[answer]
    assert parse(answer, OPENAI) == Parsed(verdict, frozenset(categories))  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", WRONG)
def test_no_verdict_or_two(answer: str) -> None:
    """An answer that names neither verdict, or both, has none; the problem says which."""
    assert parse(answer, OPENAI) == Parsed(None, problem=WRONG[answer])


def test_outside_the_taxonomy() -> None:
    """A category that is none of the taxonomy's is told as it stands, the verdict and the others hold."""
    assert parse("unsafe\nhate, Piracy, S9", OPENAI) == Parsed("unsafe", frozenset({"H"}), "outside-taxonomy", ("piracy", "s9"))
    assert parse("unsafe\nhate", taxonomy("xstest")) == Parsed("unsafe", problem="outside-taxonomy", outside=("hate",))


def test_safe_with_categories() -> None:
    """A text that is called safe and given a category is safe, and the contradiction is a problem."""
    assert parse("safe\nhate", OPENAI) == Parsed("safe", problem="safe-with-categories")


@pytest.mark.parametrize("name", TAXONOMIES)
def test_canonical_answers(name: str) -> None:
    """What is written is read back: no category, each alone, all together, also those whose words hold commas and `and`."""
    own = taxonomy(name)
    keys = list(own.categories)
    assert written(False, keys, own) == "safe"
    for some in ([], *([key] for key in keys), keys):
        assert parse(written(True, some, own), own) == Parsed("unsafe", frozenset(some))


def test_order_of_categories() -> None:
    """Categories are written in the order of the taxonomy, whatever the order they come in."""
    assert written(True, ["V", "H"], OPENAI) == written(True, ["H", "V"], OPENAI) == "unsafe\nhate, violence"


@given(st.text(), st.sampled_from([*TAXONOMIES.values()]))
def test_any_text(answer: str, own: Taxonomy) -> None:
    """Nothing that a model can write breaks the reading, and what is read fits together."""
    found = parse(answer, own)
    assert found.categories <= own.categories.keys()
    assert (found.verdict is None) == (found.problem in ("no-verdict", "two-verdicts"))
    assert found.verdict == "unsafe" or not found.categories
    assert bool(found.outside) == (found.problem == "outside-taxonomy")


@given(st.booleans(), st.sets(st.sampled_from([*OPENAI.categories])), st.text(st.characters(categories=["Cf", "Cc"]), max_size=3))
def test_invisible_characters(unsafe: bool, keys: set[str], hidden: str) -> None:
    """Characters that nobody sees change nothing, wherever in a word they stand."""
    plain = written(unsafe, keys, OPENAI)
    unseen = "".join(mark for mark in hidden if mark not in "\n\r\t")
    assert parse(plain.replace("a", f"a{unseen}"), OPENAI) == parse(plain, OPENAI)


def test_taxonomy_names() -> None:
    """Keys and words are found however spelt; a name that nobody knows is told with the nearest one."""
    assert {OPENAI.key(words) for words in ("Self-Harm", "self_harm", "SELF HARM", "sh")} == {"SH"}
    assert OPENAI.key("piracy") is None
    assert OPENAI.words("overall") == "unsafe"
    with pytest.raises(ConfigError, match="Did you mean 'hatecheck'"):
        taxonomy("hatechek")


@pytest.mark.parametrize("categories", [{"overall": "all"}, {"a": "Safe"}, {"a": " "}, {"a": "self harm", "b": "Self-Harm"}])
def test_impossible_taxonomies(categories: dict[str, str]) -> None:
    """Categories that could not be told from a verdict, or from each other, are refused."""
    with pytest.raises(ConfigError):
        Taxonomy("own", categories)


def test_published_taxonomies() -> None:
    """As many categories as the papers name: 8 of OpenAI, 14 of BeaverTails, 19 of PKU-SafeRLHF, 23 of Aegis 2.0."""
    sizes = {name: len(one.categories) for name, one in TAXONOMIES.items()}
    assert (sizes["openai"], sizes["beavertails"], sizes["saferlhf"], sizes["aegis"]) == (8, 14, 19, 23)
