"""Suites: read strictly, every fault at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpoframe.errors import ConfigError
from dpoframe.harness import load_suite
from dpoframe.plugins import PluginHost


def test_reads_prompts_pairs_and_evaluators(suite_file: Path, plugins: PluginHost) -> None:
    """A suite holds the prompts of its file with their further fields, the pairs of its data set, and its evaluators."""
    suite = load_suite(suite_file, plugins)
    assert [prompt.id for prompt in suite.prompts] == ["p0", "p1", "p2", "p3", "p4"]
    assert suite.prompts[0].meta == {"expect": ["a"]}
    assert len(suite.pairs) == 12
    assert suite.evaluators[2].window == 4  # type: ignore[attr-defined]


def test_requests_have_own_seeds(suite_file: Path, plugins: PluginHost) -> None:
    """Every prompt is asked `samples` times, each time with a seed of its own that does not depend on the others."""
    requests = load_suite(suite_file, plugins).requests()
    assert [request.id for request in requests[:3]] == ["p0#0", "p0#1", "p1#0"]
    assert len({request.seed for request in requests}) == 10
    suite_file.with_name("prompts.jsonl").write_text('{"id": "p1", "prompt": "say b"}\n')
    assert load_suite(suite_file, plugins).requests()[0].seed == requests[2].seed


def test_every_fault_is_told(tmp_path: Path, plugins: PluginHost) -> None:
    """An unknown key of an evaluator, an unknown evaluator, a missing file and prompts that lack: one error names them all."""
    file = tmp_path / "bad.yaml"
    file.write_text(
        "name: bad\nversion: 1\nprompts: absent.jsonl\n"
        "evaluators: [{name: degeneration, windw: 3}, degenration, preference_accuracy]\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_suite(file, plugins)
    message = str(caught.value)
    for part in ("absent.jsonl", "windw", "Did you mean 'window'?", "degenration", "preference_accuracy", "held-out pairs"):
        assert part in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("name: x\nversion: 1\nevaluators: [finished]\nprompts: [a]\nsample: 3\n", "Did you mean 'samples'?"),
        ("name: x\nversion: 1\nprompts: [a]\nevaluators: []\n", "evaluators"),
        ("name: x\nversion: 1\nprompts: [a]\nevaluators: [finished]\nsamples: 0\n", "samples"),
        ("name: x\nversion: 1\nprompts: [{text: a}]\nevaluators: [finished]\n", "needs a key `prompt`"),
        (
            "name: x\nversion: 1\nprompts: [{id: a, prompt: x}, {id: a, prompt: y}]\nevaluators: [finished]\n",
            "two prompts with the id",
        ),
        ("name: x\nversion: 1\nprompts: [a]\nevaluators: [finished, finished]\n", "two evaluators that give"),
        ("- a\n", "must hold a mapping of keys"),
        ("a: [", "not valid YAML"),
    ],
)
def test_bad_suites(tmp_path: Path, plugins: PluginHost, text: str, part: str) -> None:
    """Each mistake is one clear ConfigError."""
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_suite(file, plugins)
    assert part in str(caught.value)


def test_bad_prompt_lines(suite_file: Path, plugins: PluginHost) -> None:
    """A line that is no JSON is named with file and line number."""
    suite_file.with_name("prompts.jsonl").write_text('{"prompt": "a"}\n{"prompt"\n')
    with pytest.raises(ConfigError, match=r"prompts\.jsonl:2"):
        load_suite(suite_file, plugins)


def test_unknown_suite(plugins: PluginHost, tmp_path: Path) -> None:
    """A name that nobody supplies, and a file that is not there, are ConfigErrors."""
    with pytest.raises(ConfigError, match="nosuch"):
        load_suite("nosuch", plugins)
    with pytest.raises(ConfigError, match="There is no file"):
        load_suite(tmp_path / "nosuch.yaml", plugins)


def test_digest_follows_content(suite_file: Path, plugins: PluginHost) -> None:
    """The digest stays the same for the same content, and changes with a prompt, a setting, or an evaluator's field."""
    first = load_suite(suite_file, plugins).digest()
    assert load_suite(suite_file, plugins).digest() == first
    text = suite_file.read_text()
    for old, new in (("window: 4", "window: 5"), ("max_new_tokens: 10", "max_new_tokens: 11"), ("count: 12", "count: 10")):
        suite_file.write_text(text.replace(old, new))
        assert load_suite(suite_file, plugins).digest() != first


def test_prompt_rows_end_at_line_feeds_alone(suite_file: Path, plugins: PluginHost) -> None:
    """A line separator or next-line mark inside a prompt, which JSON may hold as it is, does not end its row."""
    row = '{"id": "p", "prompt": "one\u2028two\x85three"}\n'
    (suite_file.parent / "prompts.jsonl").write_text(row, encoding="utf-8")
    assert load_suite(suite_file, plugins).prompts[0].content == "one\u2028two\x85three"
