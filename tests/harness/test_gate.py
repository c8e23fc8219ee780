"""Gates: their file, their verdicts, and how CI is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats as scipy_stats

from dpoframe.errors import ConfigError, DataError
from dpoframe.harness.comparison.compare import Comparison, compare
from dpoframe.harness.gates import Gate, GateRow, Judged, Judgement, judge, load_gate
from dpoframe.harness.gates.junit import junit, junit_of_failure
from dpoframe.harness.gates.markdown import markdown, markdown_of_failure, plain

EvaluationWriter = Callable[..., Path]
Comparing = Callable[..., Comparison]

HOSTILE = "<b>&\"'</b> | `x` \x00\x1b[31m\ud800\ufffe\u202e ]]> \n@all"


@pytest.fixture
def compared(evaluation: EvaluationWriter, tmp_path: Path) -> Comparing:
    """Compares two models whose scores are given by metric; `before` and `after` hold a list of values each."""

    def make(before: Mapping[str, list[Any]], after: Mapping[str, list[Any]], samples: int = 1, **changes: Any) -> Comparison:
        folders = [tmp_path / f"{side}{len(list(tmp_path.iterdir()))}" for side in ("a", "b")]
        for folder, columns in zip(folders, (before, after), strict=True):
            rows = {name: {_id(n, samples): value for n, value in enumerate(column)} for name, column in columns.items()}
            evaluation(folder, rows, **changes)
        return compare(*folders)

    return make


def _id(number: int, samples: int) -> str:
    return f"p{number // samples}#{number % samples}"


def verdict(comparison: Comparison, **row: Any) -> Judged:
    """The verdict on a gate of one row."""
    return judge(Gate((GateRow(suite="chat", **{"metric": "right", **row}),)), [comparison]).rows[0]


def written(folder: Path, text: str) -> Path:
    """A gate file."""
    (folder / "gate.yaml").write_text(text)
    return folder / "gate.yaml"


def test_reads_a_gate(tmp_path: Path) -> None:
    """A file's rows and options arrive as they are written; a number may stand without its point."""
    gate = load_gate(
        written(
            tmp_path,
            "description: for releases\nholm: true\ngate:\n"
            "  - {suite: chat, metric: right, direction: higher, margin: 0.02}\n"
            "  - {suite: chat, metric: words, at_most: 40, max_unscored: 0.1, min_n: 50}\n",
        )
    )
    assert gate.holm
    assert gate.rows[0] == GateRow("chat", "right", "higher", 0.02)
    assert gate.rows[1] == GateRow("chat", "words", at_most=40, max_unscored=0.1, min_n=50)
    assert gate.where(1) == "gate.1 (line 5)"


def test_every_fault_is_told(tmp_path: Path) -> None:
    """Misspelt keys at both levels, values that cannot be and rows without a demand: one error has all, with lines and hints."""
    file = written(
        tmp_path,
        "gat: 1\nholm: 3\ngate:\n"
        "  - {suite: chat, metric: right, marign: 0.02}\n"
        "  - {suite: chat, metric: right, margin: -0.02}\n"
        "  - {suite: chat, metric: right, direction: up, margin: 0.1}\n"
        "  - {suite: chat, metric: right, at_least: 0.5, at_most: 0.4}\n"
        "  - {suite: chat, metric: right, max_unscored: 1.5}\n"
        "  - {metric: right, margin: true}\n"
        "  - {suite: chat, metric: right, margin: 0.1, min_n: 0}\n"
        "  - {suite: chat, metric: right, at_least: .inf}\n",
    )
    with pytest.raises(ConfigError) as caught:
        load_gate(file)
    message = str(caught.value)
    for part in (
        "gat (line 1): is no key here. Did you mean 'gate'?",
        "holm (line 2)",
        "gate.0.marign (line 4): is no key here. Did you mean 'margin'?",
        "gate.1.margin (line 5): is -0.02",
        "superiority: true",
        "gate.2.direction (line 6)",
        "gate.3.at_least (line 7): is 0.5, above at_most",
        "gate.4.max_unscored (line 8)",
        "gate.5.suite (line 9): is required",
        "gate.5.margin (line 9): is True, but should be a number",
        "gate.6.min_n (line 10)",
        "gate.7.at_least (line 11)",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "must hold a key `gate`"),
        ("# nothing\n", "must hold a key `gate`"),
        ("- a\n", "must hold a key `gate`"),
        ("gate: [\n", "not valid YAML"),
        ("gate: []\n", "holds no rows"),
        ("gate: {suite: chat}\n", "should be a list"),
        ("gate: [chat]\n", "should be a mapping"),
        ("gate: [{suite: chat, metric: right}]\n", "has no demand"),
        ("gate: [{suite: chat, metric: right, margin: 0.1, margin: 0.2}]\n", "stands twice"),
        ("gate: [{suite: chat, metric: right, margin: .nan}]\n", "not a number"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, part: str) -> None:
    """Each mistake is one clear ConfigError."""
    with pytest.raises(ConfigError) as caught:
        load_gate(written(tmp_path, text))
    assert part in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """No file, a folder, bytes that are no text, a file beyond all measure: said as such."""
    for path, part in ((tmp_path / "no.yaml", "no gate file"), (tmp_path, "is a folder")):
        with pytest.raises(ConfigError, match=part):
            load_gate(path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_gate(tmp_path / "bytes.yaml")
    (tmp_path / "large.yaml").write_text("#" * 300_000)
    with pytest.raises(ConfigError, match="too much for a gate"):
        load_gate(tmp_path / "large.yaml")


def test_verdicts_follow_the_interval(compared: Comparing) -> None:
    """100 prompts, 10 lost, 2 gained: worse by .08 with an interval of about -.15 to -.01, so the margin decides."""
    before = [1.0] * 60 + [0.0] * 40
    after = [0.0] * 10 + [1.0] * 50 + [1.0] * 2 + [0.0] * 38
    found = compared({"right": before}, {"right": after})
    difference = found["right"].difference
    assert difference.low < -0.1 < difference.high < 0
    passed, failed, open_ = (verdict(found, margin=margin) for margin in (0.2, 0.0, 0.1))
    assert (passed.verdict, failed.verdict, open_.verdict) == ("PASS", "FAIL", "INCONCLUSIVE")
    assert passed.difference == difference
    assert "lies above -0.2" in passed.reason
    assert "lies wholly below 0" in failed.reason
    assert "reaches across -0.1" in open_.reason
    assert failed.lost == tuple(f"p{n}#0" for n in range(10))


def test_lower_is_better(compared: Comparing) -> None:
    """For a metric that is better when lower, a rise is what the margin bounds; the metric's own direction is known."""
    found = compared({"loops": [0.0] * 100}, {"loops": [1.0] * 12 + [0.0] * 88})
    assert verdict(found, metric="loops", margin=0.0).verdict == "FAIL"
    assert verdict(found, metric="loops", margin=0.3, direction="lower").verdict == "PASS"
    assert verdict(found, metric="loops", margin=0.1).verdict == "INCONCLUSIVE"
    assert verdict(found, metric="loops", margin=0.0).lost[:2] == ("p0#0", "p1#0")
    back = compared({"loops": [1.0] * 12 + [0.0] * 88}, {"loops": [0.0] * 100})
    assert verdict(back, metric="loops", superiority=True).verdict == "PASS"


def test_superiority(compared: Comparing) -> None:
    """A margin of 0 and `superiority` demand an interval above 0; with a margin it must lie above that."""
    found = compared({"right": [0.0] * 100}, {"right": [1.0] * 30 + [0.0] * 70})
    assert found["right"].difference.low > 0.2
    for row in ({"margin": 0.0}, {"superiority": True}, {"superiority": True, "margin": 0.2}):
        assert verdict(found, **row).verdict == "PASS"
    assert verdict(found, superiority=True, margin=0.3).verdict == "INCONCLUSIVE"
    assert verdict(found, superiority=True, margin=0.5).verdict == "FAIL"


def test_no_change_passes_or_not_as_the_margin_says(compared: Comparing) -> None:
    """Equal answers on 60 prompts: +-.060 may hide in them, so a margin of .05 is inconclusive and .07 passes; 0 never does."""
    values = [1.0, 0.0, 1.0] * 20
    found = compared({"right": values}, {"right": values})
    assert [verdict(found, margin=margin).verdict for margin in (0.07, 0.05, 0.0)] == ["PASS", "INCONCLUSIVE", "INCONCLUSIVE"]
    # z^2 / (n + z^2) < .05 from n = 73 on
    assert verdict(found, margin=0.05).needed == pytest.approx(73, abs=2)


def test_says_how_many_prompts_would_decide(compared: Comparing) -> None:
    """An inconclusive row names n with (z.975 + z.8) sqrt(Var / n) = the distance to the bound, and what n finds now."""
    generator = np.random.default_rng(1)
    differences = generator.normal(0.0, 1.0, 50)
    found = compared({"reward": [0.0] * 50}, {"reward": differences.tolist()})
    row = verdict(found, metric="reward", margin=0.15)
    distance = float(differences.mean()) + 0.15
    factor = float(scipy_stats.norm.ppf(0.975) + scipy_stats.norm.ppf(0.8))
    assert row.verdict == "INCONCLUSIVE"
    assert row.needed == math.ceil(differences.var(ddof=1) * (factor / distance) ** 2)
    assert row.detectable == pytest.approx(factor * differences.std(ddof=1) / math.sqrt(50))
    assert f"About {row.needed:,.0f} prompts would decide it" in row.reason


def test_bounds_of_the_figure_itself(compared: Comparing) -> None:
    """`at_least` and `at_most` hold the aligned model's own interval (Wilson, 80 of 100: .711 to .867) against a number."""
    found = compared({"right": [0.0] * 100}, {"right": [1.0] * 80 + [0.0] * 20})
    verdicts = [verdict(found, **row).verdict for row in ({"at_least": 0.7}, {"at_least": 0.75}, {"at_least": 0.9})]
    assert verdicts == ["PASS", "INCONCLUSIVE", "FAIL"]
    verdicts = [verdict(found, **row).verdict for row in ({"at_most": 0.9}, {"at_most": 0.85}, {"at_most": 0.7})]
    assert verdicts == ["PASS", "INCONCLUSIVE", "FAIL"]
    row = verdict(found, at_least=0.7, at_most=0.75)
    assert row.verdict == "INCONCLUSIVE"
    assert row.difference is None
    assert row.figure is not None
    assert (row.figure.low, row.figure.high) == pytest.approx((0.7112, 0.8666), abs=1e-4)


def test_a_figure_that_is_the_bound_is_at_least_the_bound(compared: Comparing) -> None:
    """A figure without spread that lies on the bound passes."""
    found = compared({"words": [9.0] * 20}, {"words": [7.0] * 20})
    assert verdict(found, metric="words", at_least=7.0).verdict == "PASS"
    assert verdict(found, metric="words", at_most=7.0).verdict == "PASS"


def test_a_figure_that_the_base_lacks(compared: Comparing) -> None:
    """A metric that only the aligned model has can be bounded; its difference is inconclusive."""
    found = compared({"right": [None] * 50}, {"right": [1.0] * 45 + [0.0] * 5})
    assert verdict(found, at_least=0.7).verdict == "PASS"
    row = verdict(found, margin=0.1)
    assert (row.verdict, row.difference) == ("INCONCLUSIVE", None)
    assert "No sample was scored in both" in row.reason


def test_counts(compared: Comparing) -> None:
    """Too many unscored samples fail, as a count or as a share; too few prompts make a row inconclusive."""
    found = compared({"right": [1.0] * 100}, {"right": [None] * 5 + [1.0] * 95})
    verdicts = [verdict(found, max_unscored=most).verdict for most in (0, 4, 5, 0.04, 0.06)]
    assert verdicts == ["FAIL", "FAIL", "PASS", "FAIL", "PASS"]
    assert "5 of 100 samples are unscored" in verdict(found, max_unscored=4).reason
    row = verdict(found, margin=0.2, min_n=96)
    assert (row.verdict, row.n, row.unscored) == ("INCONCLUSIVE", 95, 5)
    assert verdict(found, margin=0.2, min_n=95, max_unscored=5).verdict == "PASS"


def test_one_prompt_decides_nothing(compared: Comparing) -> None:
    """A single number has no interval, and says so."""
    row = verdict(compared({"reward": [0.0]}, {"reward": [9.0]}), metric="reward", margin=0.1)
    assert row.verdict == "INCONCLUSIVE"
    assert "no interval" in row.reason


def test_names_that_are_not_there(compared: Comparing, tmp_path: Path) -> None:
    """Unknown suites and metrics, and directions against the metric's own or for none, are told at once, with line and hint."""
    found = compared({"right": [1.0] * 9, "words": [1.0] * 9}, {"right": [1.0] * 9, "words": [1.0] * 9})
    gate = load_gate(
        written(
            tmp_path,
            "gate:\n  - {suite: chatt, metric: right, margin: 0.1}\n  - {suite: chat, metric: rihgt, margin: 0.1}\n"
            "  - {suite: chat, metric: right, direction: lower, margin: 0.1}\n  - {suite: chat, metric: words, margin: 0.1}\n",
        )
    )
    with pytest.raises(ConfigError) as caught:
        judge(gate, [found])
    for part in (
        "gate.0 (line 2): the suite 'chatt' was not compared",
        "Did you mean 'chat'?",
        "gate.1 (line 3): the suite chat has no metric 'rihgt'. Did you mean 'right'?",
        "gate.2 (line 4): direction is lower, but right is better when higher",
        "gate.3 (line 5): words is better neither when higher nor when lower",
    ):
        assert part in str(caught.value)


def test_unfinished_evaluations_are_not_judged(compared: Comparing) -> None:
    """A comparison with a side that is not finished is refused."""
    found = replace(compared({"right": [1.0] * 9}, {"right": [1.0] * 9}), unfinished="b: missing")
    with pytest.raises(DataError, match="not finished"):
        verdict(found, margin=0.1)


def test_a_difference_that_could_not_be_formed_is_no_verdict(compared: Comparing) -> None:
    """A margin on a figure over all samples whose evaluator is not to be had is an error that says why; a bound still holds."""
    found = compared({"right": [1.0] * 50}, {"right": [1.0] * 50})
    about = {**found.after, "evaluators": {"right": {**found.after["evaluators"]["right"], "aggregates": ["right"]}}}
    found = replace(found, after=about, differences=(), notes=("The evaluator is not installed.",))
    with pytest.raises(ConfigError, match=r"no difference of right to judge\. The evaluator is not installed"):
        verdict(found, margin=0.1)
    assert verdict(found, at_least=0.9).verdict == "PASS"


def test_the_whole_gate(compared: Comparing) -> None:
    """FAIL where any row fails, else INCONCLUSIVE where any is, else PASS; the exit codes are 1, 2, 0."""
    found = compared({"right": [0.0] * 100, "loops": [0.0] * 100}, {"right": [1.0] * 30 + [0.0] * 70, "loops": [0.0] * 100})
    rows = {
        "PASS": GateRow("chat", "right", superiority=True),
        "INCONCLUSIVE": GateRow("chat", "loops", margin=0.01),
        "FAIL": GateRow("chat", "right", at_least=0.9),
    }
    for names, code in ((["PASS"], 0), (["PASS", "INCONCLUSIVE"], 2), (["INCONCLUSIVE", "FAIL", "PASS"], 1)):
        judgement = judge(Gate(tuple(rows[name] for name in names)), [found])
        assert [row.verdict for row in judgement.rows] == names
        assert judgement.exit_code == code


def test_holm_counts_the_rows_together(compared: Comparing) -> None:
    """Ten equal rows whose p value is near .01 pass alone and not together; the p values shown are ten times as large."""
    before = np.random.default_rng(3).normal(size=60)
    after = before + np.random.default_rng(4).normal(0.4, 1.0, size=60)
    found = compared({"reward": before.tolist()}, {"reward": after.tolist()})
    p = found["reward"].estimate.above(0.0) if found["reward"].estimate else 1.0
    assert 0.0025 < p < 0.025
    rows = tuple(GateRow("chat", "reward", margin=0.0) for _ in range(10))
    alone, together = (judge(Gate(rows, holm=holm), [found]) for holm in (False, True))
    assert {row.verdict for row in alone.rows} == {"PASS"}
    assert {row.verdict for row in together.rows} == {"INCONCLUSIVE"}
    assert together.rows[0].p_holm == pytest.approx(10 * p)
    assert "with the 10 tests of this gate counted together" in together.rows[0].reason
    assert judge(Gate(rows[:1], holm=True), [found]).rows[0].verdict == "PASS"


def test_junit(compared: Comparing) -> None:
    """One test case a row: a failure, a skipped one, a plain one, with counts that add up and the reasons inside."""
    found = compared({"right": [1.0] * 100}, {"right": [0.0] * 20 + [1.0] * 80})
    rows = (GateRow("chat", "right", margin=0.5), GateRow("chat", "right", margin=0.1), GateRow("chat", "right", margin=0.22))
    judgement = judge(Gate(rows, name="gate.yaml"), [found])
    top = ElementTree.fromstring(junit(judgement).encode())
    suite = top.find("testsuite")
    assert suite is not None
    assert {key: suite.get(key) for key in ("name", "tests", "failures", "errors", "skipped")} == {
        "name": "gate.yaml",
        "tests": "3",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
    }
    passed, failed, skipped = suite.findall("testcase")
    assert [child.tag for child in passed] == ["system-out"]
    assert failed.find("failure") is not None
    assert failed.get("classname") == "chat"
    assert "not worse by 0.1 or more" in str(failed.get("name"))
    told = failed.findtext("system-out") or ""
    assert "lost: p0#0, p1#0" in told
    assert "difference: -0.2 [" in told
    inconclusive = skipped.find("skipped")
    assert inconclusive is not None
    assert "would decide it" in str(inconclusive.get("message"))


def test_junit_holds_any_text() -> None:
    """Markup, control characters, halves of surrogate pairs and the end of a CDATA section arrive as text in valid XML."""
    row = Judged(HOSTILE, HOSTILE, "higher", 0.1, HOSTILE, "FAIL", HOSTILE, lost=(HOSTILE,))
    for text in (junit(Judgement((row,), HOSTILE)), junit_of_failure(HOSTILE, HOSTILE)):
        top = ElementTree.fromstring(text.encode())
        assert {one.tag for one in top.iter()} <= {"testsuites", "testsuite", "testcase", "failure", "error", "system-out"}
        assert not top.findall(".//b")
        assert "\x1b" not in text
        assert "\\x1b[31m\\ud800\\ufffe" in text
    (error,) = ElementTree.fromstring(junit_of_failure("gate.yaml", "no such run\nlook there")).iter("error")
    assert error.get("message") == "no such run"
    assert error.text == "no such run\nlook there"


def test_markdown(compared: Comparing) -> None:
    """The verdict stands first, each row and each metric has a line, every line of a table as many cells as its head."""
    found = compared({"right": [1.0] * 100}, {"right": [0.0] * 20 + [1.0] * 80})
    judgement = judge(Gate((GateRow("chat", "right", margin=0.1),), name="gate.yaml"), [found])
    text = markdown([found], judgement)
    assert text.startswith("## Gate: ❌ FAIL")
    assert "not worse by 0.1 or more" in text
    assert "Lost on right: p0\\#0" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count(" | ") for line in tables[2:3]} == {tables[0].count(" | ")}
    assert {line.replace("\\|", "").count("|") for line in tables[:3]} == {8}
    assert {line.replace("\\|", "").count("|") for line in tables[3:]} == {11}
    assert markdown([found]).startswith("### chat")


def test_markdown_holds_any_text() -> None:
    """Pipes, markup, mentions and control characters of names and reasons are shown, and start nothing."""
    shown = plain(HOSTILE)
    assert "\n" not in shown
    assert "\x1b" not in shown
    for part in ("\\<b\\>", "\\|", "\\`x\\`", "\\@all"):
        assert part in shown
    row = Judged(HOSTILE, HOSTILE, "higher", 0.1, HOSTILE, "FAIL", HOSTILE, lost=(HOSTILE,))
    for text in (markdown([], Judgement((row,), HOSTILE)), markdown_of_failure(HOSTILE)):
        assert "<b>" not in text
        assert "\x00" not in text
        text.encode()
