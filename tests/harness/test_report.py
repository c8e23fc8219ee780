"""The report page: what it tells of a run, of one evaluation and of several, and what it does not let happen to the reader."""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dpoframe.errors import ConfigError, DataError, MachineError
from dpoframe.harness import compare, report
from dpoframe.harness.page import answers, findings
from dpoframe.harness.page.charts import number

HOSTILE = [
    '<script>alert("x")</script><img src=x onerror=alert(1)>{{ 7 * 7 }}</textarea>',
    '"><svg/onload=alert(1)> \' " ` & </p></article></main></style>',
    "right to left \u202e and \u2066 back \x00 bell \x07 \x1b[31m half \ud800 line\u2028end \ufeff",
    "w" * 5000,
]
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def scale(name: str, low: float | None, high: float | None, unit: str, better: str | None) -> dict[str, Any]:
    """A metric as the manifest tells of it."""
    return {"name": name, "low": low, "high": high, "unit": unit, "better": better}


EVALUATORS = {
    "hits": {
        "version": "2",
        "about": "Share of answers that hit.",
        "needs": "response",
        "primary": "hits",
        "arguments": "Hits(words=30)",
        "assets": [{"name": "a list of words", "licence": "MIT", "digest": "feed" * 8}],
        "metrics": {"hits": scale("rate", 0.0, 1.0, "share", "higher")},
    },
    "judge": {
        "version": "1",
        "about": "A judge.",
        "needs": "response",
        "primary": "judge",
        "metrics": {
            "judge": scale("win_rate", 0.0, 1.0, "share", "higher"),
            "judge/null": scale("null", 0.0, 1.0, "share", None),
            "judge/longer": scale("longer", 0.0, 1.0, "share", None),
        },
    },
    "length": {
        "version": "1",
        "about": "Words.",
        "needs": "response",
        "metrics": {"length": scale("words", 0, None, "words", None)},
    },
}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Writes the folder of an evaluation: `hit` says which answers hit, `texts` what they are."""

    def write(place: str, hit: Sequence[float], texts: Sequence[Any] = (), suite: str = "small", **about: Any) -> Path:
        folder = tmp_path / place
        folder.mkdir(parents=True)
        said = list(texts) or [f"answer {number}" for number in range(len(hit))]
        rows = [
            {"key": f"{number:032x}", "id": f"p{number}#0", "prompt": f"say {number}", "response": text, "meta": {"kind": "fact"}}
            for number, text in enumerate(said)
        ]
        scores = []
        for place_in_order, value in enumerate(hit):
            own = {"id": f"p{place_in_order}#0", "cluster": f"c{place_in_order}"}
            scores.append({"evaluator": "hits", "values": {"rate": value}, "reason": "", **own})
            scores.append({"evaluator": "length", "values": {"words": 3.0 + place_in_order}, "reason": "", **own})
            failed = {"values": None, "reason": f"the judge said {HOSTILE[0]}" if place_in_order else "not applicable"}
            scores.append(
                {"evaluator": "judge", **failed, **own}
                if place_in_order < 2
                else {"evaluator": "judge", "values": {"win_rate": 0.5}, "reason": "", **own}
            )
        mean = sum(hit) / len(hit)
        figures = {"value": mean, "ci_low": mean - 0.1, "ci_high": mean + 0.1, "stderr": 0.05, "n": len(hit), "unscored": 0}
        metrics = dict.fromkeys(("hits", "judge", "judge/null", "judge/longer", "length"), figures)
        manifest = {
            "suite": suite, "suite_version": "7", "suite_digest": "ab" * 16, "description": "Says things.",
            "model": f"model of {place}",
            "model_digest": "cd" * 16, "base": "the base", "base_digest": "ef" * 16, "digest": "01" * 16, "prompts": len(hit),
            "pairs": 0, "samples": 1, "generation": {"max_new_tokens": 10}, "seed": 5, "versions": {"dpoframe": "0", "torch": "2"},
            "order": list(EVALUATORS), "evaluators": copy.deepcopy(EVALUATORS), **about,
        }  # fmt: skip
        (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores))
        (folder / "manifest.json").write_text(json.dumps(manifest))
        (folder / "results.json").write_text(json.dumps({"suite": suite, "model": "m", "metrics": metrics, "complete": True}))
        return folder

    return write


@pytest.fixture
def run(written: Callable[..., Path], tmp_path: Path) -> Path:
    """A run folder with one suite evaluated before and after, and ten logged steps."""
    written("run/base/eval/small", [0.0, 0.0, 0.0, 1.0, 1.0])
    written("run/eval/small", [0.0, 1.0, 1.0, 1.0, 0.0])
    rows = [{"step": step, "loss": 0.69 / (step + 1), "rewards/margins": float(step), "lr": 1e-4} for step in range(10)]
    rows += [{"step": step, "stage": "validation", "loss": 0.6 / (step + 1)} for step in (0, 5, 9)]
    rows += [{"step": step, "stage": "evaluation", "small/hits": step / 9, "small/hits/x": 1.0} for step in (4, 9)]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 10, "lo')
    (tmp_path / "run" / "recipe.yaml").write_text(
        "modality: {name: toy}\nloss: {name: sigmoid}\nseed: 0\nevaluate: {suites: [small], keep_best: {metric: small/hits}}\n"
    )
    (tmp_path / "run" / "environment.json").write_text('{"python": "3.11"}')
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

    def attributes(self, *names: str) -> list[str]:
        """Values of the attributes of these names."""
        return [value or "" for _, attributes in self.found for name, value in attributes.items() if name in names]


def sections(text: str, title: str) -> str:
    """What stands between a heading and the next section."""
    return text.partition(f"<h2>{title}</h2>")[2].partition("<section")[0]


def test_page_stands_alone(run: Path, written: Callable[..., Path]) -> None:
    """The page loads nothing: no script, no address outside itself, its links lead to places in it, and its tags nest."""
    for page in (report(run), report([run, run / "base"], run / "two.html"), report(run / "eval" / "small")):
        text = page.read_text()
        tags = Tags(text)
        assert tags.stack == []
        assert not {tag for tag, _ in tags.found} & {"script", "link", "iframe", "object", "embed", "base", "form"}
        assert set(tags.attributes("href")) <= {f"#{name}" for name in tags.attributes("id")}
        assert all(value.startswith("data:image/") for value in tags.attributes("src", "srcset"))
        assert not re.search(r"url\(|@import|https?://", text)


def test_page_is_deterministic(run: Path, tmp_path: Path) -> None:
    """The same folders give the same bytes, wherever the page is written and wherever the run was moved."""
    first = report(run, tmp_path / "a.html").read_bytes()
    assert report(run, tmp_path / "b.html").read_bytes() == first
    (tmp_path / "elsewhere").mkdir()
    moved = run.rename(tmp_path / "elsewhere" / "run")
    assert report(moved, tmp_path / "c.html").read_bytes() == first


def test_hostile_output_is_escaped(written: Callable[..., Path], tmp_path: Path) -> None:
    """Tags, template syntax, quotes, control and bidi marks, half characters, whoever says them, arrive as text."""
    names = {"description": HOSTILE[0], "model": HOSTILE[1], "versions": {HOSTILE[0]: HOSTILE[1]}, "generation": {"x": HOSTILE[2]}}
    for place in ("bad/base/eval/small", "bad/eval/small"):
        folder = written(place, [0.0, 1.0, 0.0, 1.0], HOSTILE, **names)
        rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
        for row, text in zip(rows, HOSTILE, strict=True):
            row |= {
                "prompt": [{"role": text, "content": text}, {"role": "user", "content": [{"text": text}, 3]}],
                "meta": {"kind": text},
            }
        (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "bad" / "recipe.yaml").write_text(f"modality: {{name: toy}}\nnote: '{HOSTILE[0]}'\n")
    text = report(tmp_path / "bad").read_text()
    tags = Tags(text)
    assert tags.stack == []
    assert {tag for tag, _ in tags.found} & {"script", "img", "textarea"} == set()
    assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
    assert "{{ 7 * 7 }}" in text
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]", text
    )
    assert "\\u202e" in text
    assert "\\ud800" in text


def test_page_shows_the_figures(run: Path) -> None:
    """Every compared metric stands on the page with its difference, every answer too, and one curve a logged column."""
    text = report(run).read_text()
    for one in compare(run / "base" / "eval" / "small", run / "eval" / "small").differences:
        assert f">{one.metric}<" in text
        assert number(one.difference.value, one.unit) in text
    assert text.count('class="answer"') == 5
    assert text.count('<svg class="curve"') == 3
    assert "The weights are the best of several by small: hits: that figure flatters them." in text
    assert "held out" in text
    assert "The aligned model" not in sections(text, "Health")


def test_flips_come_in_groups(run: Path) -> None:
    """Two answers were gained, one was lost, two are unchanged: each group says how many, with the right prompts in it."""
    text = report(run).read_text()
    found = {title: text.partition(f"<h3>{title} ")[2].partition("<h3>")[0] for title in ("Gained", "Lost", "Unchanged")}
    told = {title: re.findall(r'class="text">(say \d)<', part) for title, part in found.items()}
    assert told == {"Gained": ["say 1", "say 2"], "Lost": ["say 4"], "Unchanged": ["say 0", "say 3"]}
    assert found["Gained"].startswith('<span class="total">2<')


def test_failures_controls_and_provenance(run: Path) -> None:
    """What failed stands with its reason, apart from what has no score by right; controls, assets, digests stand too."""
    text = report(run).read_text()
    failed = text.partition("<h3>Unscored</h3>")[2].partition("</section>")[0]
    assert failed.count("the judge said &lt;script&gt;") == 2  # one for each model
    assert "judge on 1 sample." in failed
    controls = sections(text, "Controls")
    for name in ("null", "longer"):
        assert f"judge ({name})" in controls
        assert findings.CONTROLS[name] in controls
        assert f"judge ({name})" not in sections(text, "What changed")
    origin = sections(text, "Provenance")
    values = ("version 7", "ab" * 16, "cd" * 16, "ef" * 16, "feed" * 8, "MIT", "Hits(words=30)", "torch 2", "max_new_tokens=10")
    for value in values:
        assert value in origin, value
    assert "seed: 0" in origin
    assert "&#34;python&#34;: &#34;3.11&#34;" in origin


def test_a_figure_that_went_wrong_says_why(written: Callable[..., Path], tmp_path: Path) -> None:
    """The reason for which an aggregate has no value, or no interval, stands on the page, escaped and with its model."""
    results = written("lone/eval/small", [0.0, 1.0]) / "results.json"
    results.write_text(results.read_text().replace('"judge": {', '"judge": {"reason": "stopped at <3 s", ', 1))
    unscored = report(tmp_path / "lone").read_text().partition("<h3>Unscored</h3>")[2].partition("</section>")[0]
    assert "<b>judge</b> of model of lone/eval/small is not known whole: stopped at &lt;3 s." in unscored


def test_an_evaluation_alone(written: Callable[..., Path], tmp_path: Path) -> None:
    """Without a base the figures stand alone, misses come before hits, and nothing speaks of a difference."""
    folder = written("lone/eval/small", [0.0, 1.0, 0.0, 1.0])
    written("out/small", [0.0, 1.0, 0.0, 1.0], model="model of lone/eval/small")  # as `dpoframe eval --out` lays it
    for page in (report(tmp_path / "lone"), report(folder, tmp_path / "folder.html"), report(tmp_path / "out")):
        text = page.read_text()
        assert "No base to compare with" in text
        assert "Paired differences" not in text
        assert text.index("<h3>Missed ") < text.index("<h3>Met ")
        assert "model of lone/eval/small" in text


def test_a_win_rate_is_held_against_one_half(run: Path) -> None:
    """A win rate that only the aligned model has, being against the base's answers, is told as a difference from 0.50."""
    for place, n in (("base/eval/small", 0), ("eval/small", 5)):
        for name in ("manifest.json", "results.json"):
            file = run / place / name
            content = json.loads(file.read_text())
            if name == "manifest.json":
                content["evaluators"]["judge"]["needs"] = "rival"
                content["rivals"] = "aa" * 16
            else:
                content["metrics"]["judge"] = {"value": 0.7, "ci_low": 0.6, "ci_high": 0.8, "stderr": 0.05, "n": n, "unscored": 0}
            file.write_text(json.dumps(content))
        scores = [json.loads(line) for line in (run / place / "scores.jsonl").read_text().splitlines()]
        kept = [one if one["evaluator"] != "judge" or n else {**one, "values": None} for one in scores]
        (run / place / "scores.jsonl").write_text("".join(json.dumps(one) + "\n" for one in kept))
    text = report(run).read_text()
    assert "Against the base&#39;s answers it wins 0.70 (0.60 to 0.80)." in text
    assert '+0.20</span> <span class="ci">+0.10 to +0.30' in sections(text, "What changed")


def test_a_gate_judges_in_the_page(run: Path, tmp_path: Path) -> None:
    """With a gate file the page says the gate's verdict, each row's, and why; of more than two models there is none."""
    gate = tmp_path / "gate.yaml"
    gate.write_text("gate:\n- {suite: small, metric: hits, margin: 0.02}\n- {suite: small, metric: length, at_most: 100}\n")
    text = report(run, gate=gate).read_text()
    section = text.partition('<section id="gate">')[2].partition("</section>")[0]
    assert re.findall(r"</span> (PASS|FAIL|INCONCLUSIVE)<", section) == ["INCONCLUSIVE", "INCONCLUSIVE", "PASS"]
    assert "not worse by 0.02 or more" in section
    with pytest.raises(ConfigError, match="Give two runs"):
        report([run, run / "base", run], tmp_path / "x.html", gate)
    assert "Gate" not in report(run).read_text()


def test_where_evaluations_lie(written: Callable[..., Path], tmp_path: Path) -> None:
    """A base is found beside a run and in an --out folder; an evaluation cut by a limit is another suite, with a warning."""
    for place in ("out/small", "out/base/small", "run/eval/small", "run/base/eval/small"):
        written(place, [0.0, 1.0])
    written("run/eval/small-limit-1", [0.0], limit=1)
    assert "base against aligned" in report(tmp_path / "out").read_text()
    text = report(tmp_path / "run").read_text()
    assert "small, small-limit-1" in text
    assert "only the first 1 prompts and pairs were asked for" in text


def test_several_runs(written: Callable[..., Path], tmp_path: Path) -> None:
    """Two runs are compared, the first being the baseline; more make a table with the best first, each against the first."""
    runs = []
    for name, hits in (("first", [0.0] * 8), ("second", [1.0] * 8), ("third", [1.0] * 4 + [0.0] * 4)):
        written(f"{name}/eval/small", hits)
        runs.append(tmp_path / name)
    two = report(runs[:2], tmp_path / "two.html").read_text()
    assert "second is better on hits" in two
    assert "+1.00" in two
    board = report(runs, tmp_path / "three.html").read_text()
    rows = re.findall(r'<th scope="row">(\w+)<', board.partition('class="figures leaderboard"')[2].partition("</table>")[0])
    assert rows == ["second", "third", "first"]
    assert "3 models" in board


def test_what_cannot_be_reported(run: Path, written: Callable[..., Path], tmp_path: Path) -> None:
    """No evaluation, no suite in common, another suite under the same name, an unfinished one, a place that cannot be written."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no evaluation.*dpoframe eval"):
        report(tmp_path / "empty")
    written("other/eval/large", [1.0, 0.0], suite="large")
    with pytest.raises(DataError, match=r"run has small; other has large"):
        report([run, tmp_path / "other"], tmp_path / "x.html")
    written("changed/eval/small", [1.0] * 5, suite_digest="99" * 16)
    with pytest.raises(DataError, match="do not compare"):
        report([run, tmp_path / "changed"], tmp_path / "x.html")
    with pytest.raises(MachineError, match=r"is a folder.*--out"):
        report(run, tmp_path / "empty")
    with pytest.raises(MachineError, match="--out"):
        report(run, run / "recipe.yaml" / "page.html")
    (run / "eval" / "small" / "results.json").unlink()
    with pytest.raises(DataError, match=r"no results\.json"):
        report(run)
    (run / "eval" / "small" / "manifest.json").write_text('{"suite": "small"}')
    with pytest.raises(DataError, match=r"manifest\.json lacks model, order"):
        report(run)
    assert not (tmp_path / "x.html").exists()


def test_large_runs_stay_small(written: Callable[..., Path], tmp_path: Path) -> None:
    """Of 3,000 answers of 10,000 characters, and as many failures, the page holds some, says so, and stays under 4 MB."""
    count = 3000
    for place in ("big/base/eval/small", "big/eval/small"):
        hits = [float((number * (3 if "base" in place else 5)) % 7 < 3) for number in range(count)]
        folder = written(place, hits, ["word " * 2000] * count)
        scores = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
        for place_in_order, one in enumerate(scores):
            if one["evaluator"] == "judge":
                one |= {"values": None, "reason": f"failure {place_in_order}"}
        (folder / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores))
    rows = [{"step": step, "loss": 0.5 + (step % 10) / 100} for step in range(20_000)]
    (tmp_path / "big" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = report(tmp_path / "big")
    text = page.read_text()
    assert page.stat().st_size < 4_000_000
    assert text.count('class="answer"') == 3 * answers.CAP
    assert f"The page holds {3 * answers.CAP} of them; all lie in <code>eval/small/samples.jsonl</code>" in text
    assert f"{2 * count - findings.REASONS:,} more reasons" in text


def test_pictures_are_shown(run: Path) -> None:
    """A picture in blobs/ stands on the page as a data URI; a missing one and one that is none are told of in words."""
    blobs = run / "eval" / "small" / "blobs"
    blobs.mkdir()
    (blobs / f"{'a' * 32}.png").write_bytes(PIXEL)
    (blobs / f"{'b' * 32}.png").write_bytes(b"<svg onload=alert(1)>")
    file = run / "eval" / "small" / "samples.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row, name in zip(rows, (f"{'a' * 32}.png", f"{'b' * 32}.png", f"{'c' * 32}.png", "../../../recipe.yaml"), strict=False):
        row["response"] = {"media": "image", "path": f"blobs/{name}"}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = report(run).read_text()
    assert Tags(text).attributes("src") == [f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"]
    assert "no picture that a page can show" in text
    assert "the file is missing" in text


def test_tables_and_drawings_can_be_read_aloud(run: Path) -> None:
    """Every table has a caption and headed rows and columns, every drawing a label, and the page one title."""
    text = report(run).read_text()
    tags = Tags(text)
    assert all(attributes.get("aria-label") and attributes.get("role") == "img" for tag, attributes in tags.found if tag == "svg")
    assert text.count("<table") == text.count("<caption")
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in tags.found if tag == "th")
    assert [tag for tag, _ in tags.found].count("h1") == 1
