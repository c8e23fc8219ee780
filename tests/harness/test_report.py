"""Comparing and reporting."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dpoframe.errors import DataError
from dpoframe.harness import EvalFolder, Subject, aggregate, compare, load_suite, report, run_suite, score
from dpoframe.plugins import PluginHost

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>{{ 7 * 7 }}</textarea>\u202e\x00'


@pytest.fixture
def run(suite_file: Path, plugins: PluginHost, subject: Subject, other: Subject, tmp_path: Path) -> Path:
    """A run folder with one suite evaluated before and after, and ten logged steps."""
    suite = load_suite(suite_file, plugins)
    run_suite(subject, suite, tmp_path / "run" / "base" / "eval" / "small")
    run_suite(other, suite, tmp_path / "run" / "eval" / "small", base=subject)
    rows = [{"step": step, "loss": 0.69 / (step + 1), "rewards/margins": float(step), "lr": 1e-4} for step in range(10)]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "run" / "recipe.yaml").write_text("modality: {name: toy}\nseed: 0\n")
    return tmp_path / "run"


class Tags(HTMLParser):
    """Collects tags with their attributes, and checks that they nest."""

    VOID = frozenset({"meta", "br", "img", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Opens a tag."""
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag that closes itself."""
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Closes the tag that was opened last, or fails."""
        assert self.stack.pop() == tag


def test_pairs_samples_by_id(run: Path) -> None:
    """The difference of a metric is the mean over prompts of after minus before, recomputed from the stored scores."""
    found = compare(run / "base" / "eval" / "small", run / "eval" / "small")["response_length/units"]

    def units(folder: Path) -> dict[str, float]:
        return {
            one.id: one.values["units"] for one in EvalFolder(folder).scores() if one.evaluator == "response_length" and one.values
        }

    before, after = units(run / "base" / "eval" / "small"), units(run / "eval" / "small")
    assert found.difference.value == pytest.approx(sum(after[name] - before[name] for name in before) / 10)
    assert found.difference.n == 5


def test_refuses_other_suites(run: Path, suite_file: Path, plugins: PluginHost, subject: Subject, tmp_path: Path) -> None:
    """Evaluations with other settings do not compare, and an unfinished one says so."""
    suite_file.write_text(suite_file.read_text().replace("max_new_tokens: 10", "max_new_tokens: 4"))
    run_suite(subject, load_suite(suite_file, plugins), tmp_path / "else")
    with pytest.raises(DataError, match="do not compare"):
        compare(tmp_path / "else", run / "eval" / "small")
    with pytest.raises(DataError, match=r"no manifest\.json"):
        compare(tmp_path / "nowhere", run / "eval" / "small")


def test_page_stands_alone(run: Path) -> None:
    """The page loads nothing: no script, no link, no address outside itself, and its tags nest."""
    text = report(run).read_text()
    tags = Tags(text)
    assert tags.stack == []
    assert not {tag for tag, _ in tags.found} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert not [value for _, attributes in tags.found for name, value in attributes.items() if name in ("src", "href", "srcset")]
    assert not re.search(r"url\(|@import|https?://", text)


def test_page_is_deterministic(run: Path, tmp_path: Path) -> None:
    """The same run folder gives the same bytes."""
    assert report(run, tmp_path / "a.html").read_bytes() == report(run, tmp_path / "b.html").read_bytes()


def test_hostile_output_is_escaped(run: Path, suite_file: Path, plugins: PluginHost) -> None:
    """Tags, template syntax and control characters in prompts, answers and reasons arrive as text."""
    clean = len(Tags(report(run).read_text()).found)
    suite = load_suite(suite_file, plugins)
    for folder in (run / "base" / "eval" / "small", run / "eval" / "small"):
        file = EvalFolder(folder)
        rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
        for row in rows:
            row |= {"response": HOSTILE, "prompt": HOSTILE, "meta": {"kind": HOSTILE, "expect": ["x"]}}
        (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        score(suite, file)
        aggregate(suite, file)
    text = report(run).read_text()
    tags = Tags(text)
    assert tags.stack == []
    assert {tag for tag, _ in tags.found} & {"script", "img", "textarea"} == set()
    assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
    assert "{{ 7 * 7 }}" in text
    assert "\x00" not in text
    assert "\u202e" not in text
    assert len(tags.found) < 2 * clean


def test_page_shows_the_figures(run: Path) -> None:
    """Every metric's figures stand on the page, every answer too, and one curve a logged column."""
    text = report(run).read_text()
    for one in compare(run / "base" / "eval" / "small", run / "eval" / "small").differences:
        assert one.metric.replace("_", " ") in text
    assert text.count('class="answer"') == 10
    assert text.count('<svg class="curve"') == 2


def test_nothing_to_report(tmp_path: Path) -> None:
    """A folder without evaluations is a DataError that says what is looked for."""
    with pytest.raises(DataError, match="before and after"):
        report(tmp_path)


def test_answers_show_the_primary_metric(run: Path) -> None:
    """Beside an answer stands its evaluator's primary metric (words), not whichever is first in the alphabet (units)."""
    for answer in compare(run / "base" / "eval" / "small", run / "eval" / "small").answers:
        words = tuple(float(len(row.response.split())) for row in (answer.before, answer.after))
        assert answer.scores["response_length"] == words
