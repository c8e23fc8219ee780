"""Comparing two evaluations: what is refused, what is paired, and the figures of the difference."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy import stats as scipy_stats

from dpoframe import Evaluator, EvaluatorSpec, Sample, Scale, Scored, hookimpl
from dpoframe.errors import DataError
from dpoframe.harness import Subject, compare, load_suite, run_suite
from dpoframe.harness.comparison.matching import compare_runs
from dpoframe.plugins import PluginHost, using

EvaluationWriter = Callable[..., Path]


def flags(pattern: str) -> dict[str, float]:
    """Yes-or-no values of prompts p0, p1, ... from a pattern of 1 and 0."""
    return {f"p{number}": float(letter) for number, letter in enumerate(pattern)}


def edited(folder: Path, name: str, **changes: Any) -> None:
    """Changes keys of one of a folder's documents."""
    document = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(document | changes))


def test_yes_or_no_metric(evaluation: EvaluationWriter, tmp_path: Path) -> None:
    """Four prompts gained and none lost of ten: +.4, McNemar's exact p .125, the flipped prompts by name."""
    before = evaluation(tmp_path / "a", {"right": flags("1110000000")})
    after = evaluation(tmp_path / "b", {"right": flags("1111111000")})
    found = compare(before, after)["right"]
    assert found.difference.value == pytest.approx(0.4)
    assert (found.gained, found.lost, found.p_value) == (4, 0, pytest.approx(0.125))
    assert found.gained_ids == ("p3", "p4", "p5", "p6")
    assert found.lost_ids == ()
    assert (found.before.value, found.after.value, found.unscored) == (pytest.approx(0.3), pytest.approx(0.7), 0)


def test_numbers_have_p_values(evaluation: EvaluationWriter, tmp_path: Path) -> None:
    """A metric in open numbers has the p value at which its interval reaches 0, near that of scipy's paired t test."""
    noise = np.random.default_rng(0).normal(size=(2, 80))
    before = {f"p{n}": float(value) for n, value in enumerate(noise[0])}
    after = {f"p{n}": float(value) for n, value in enumerate(noise[0] + 0.2 * noise[1] + 0.05)}
    found = compare(evaluation(tmp_path / "a", {"reward": before}), evaluation(tmp_path / "b", {"reward": after}))["reward"]
    expected = float(scipy_stats.ttest_rel(list(after.values()), list(before.values())).pvalue)
    assert found.p_value == pytest.approx(expected, rel=0.25)
    assert found.difference.excludes(0.0) == (found.p_value is not None and found.p_value < 0.05)
    assert found.gained is None
    spread = np.std(0.2 * noise[1], ddof=1)
    assert found.detectable == pytest.approx((1.959964 + 0.841621) * spread / math.sqrt(80), rel=1e-5)


def test_holm_over_the_primary_metrics(evaluation: EvaluationWriter, tmp_path: Path) -> None:
    """Two primary metrics are corrected together: the smaller p doubled; a metric that is not primary has no correction."""
    names = {"right": flags("0000000000"), "loops": flags("1110000000"), "words": flags("1101000000")}
    later = {"right": flags("1111111100"), "loops": flags("0000000000"), "words": flags("0101000000")}
    folders = [evaluation(tmp_path / side, scores) for side, scores in (("a", names), ("b", later))]
    for folder in folders:
        about = json.loads((folder / "manifest.json").read_text())
        about["evaluators"]["words"]["primary"] = "words/other"
        (folder / "manifest.json").write_text(json.dumps(about))
    found = compare(*folders)
    assert found["right"].p_holm == pytest.approx(2 * (found["right"].p_value or 0))
    assert found["loops"].p_holm == pytest.approx(found["loops"].p_value)
    assert found["words"].p_holm is None
    assert found["loops"].verdict in ("better", "no clear difference")


def test_unscored_samples_are_left_out_and_counted(evaluation: EvaluationWriter, tmp_path: Path) -> None:
    """A sample that one side could not score counts as unscored, not as 0."""
    before = evaluation(tmp_path / "a", {"right": {**flags("1010"), "p1": None}})
    after = evaluation(tmp_path / "b", {"right": {**flags("1011"), "p2": None}})
    found = compare(before, after)["right"]
    assert (found.unscored, found.difference.n, found.gained, found.lost) == (2, 2, 1, 0)


def test_a_metric_that_only_one_side_has_scored(evaluation: EvaluationWriter, tmp_path: Path) -> None:
    """Where the base has no score at all (a win rate against itself) there is no difference, a note, and the figure stays."""
    before = evaluation(tmp_path / "a", {"right": dict.fromkeys(flags("1111"), None)})
    after = evaluation(tmp_path / "b", {"right": flags("1110")})
    found = compare(before, after)
    assert found.differences == ()
    assert "no sample was scored in both" in found.notes[0]
    assert found.figures["right"]["value"] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"suite": "code"}, "suite chat against code"),
        ({"suite_version": "2"}, "suite version 1 against 2"),
        ({"generation": {"max_new_tokens": 32}, "requests_digest": "x"}, "generation.max_new_tokens 16 against 32"),
        ({"generation": {}, "requests_digest": "x"}, "generation.max_new_tokens 16 against unset"),
        ({"samples": 4, "requests_digest": "x"}, "1 answers a prompt against 4"),
        ({"seed": 3, "requests_digest": "x"}, "0 seed against 3"),
        ({"limit": 4, "requests_digest": "x"}, "the whole suite against its first 4 prompts and pairs"),
        ({"requests_digest": "x"}, "the text of prompts or pairs"),
    ],
)
def test_refuses(evaluation: EvaluationWriter, tmp_path: Path, changes: Mapping[str, Any], part: str) -> None:
    """Another suite, version, setting, number of answers, seed, limit or text: refused, and the message says which."""
    before = evaluation(tmp_path / "a", {"right": flags("1010")})
    after = evaluation(tmp_path / "b", {"right": flags("1010")}, suite_digest="other", **changes)
    with pytest.raises(DataError, match="do not compare") as caught:
        compare(before, after)
    assert part in str(caught.value)
    assert "same version of one suite" in str(caught.value)


def test_refuses_other_evaluators(evaluation: EvaluationWriter, tmp_path: Path) -> None:
    """An evaluator that one side lacks, of another version, or with other settings, is named; all in one message."""
    before = evaluation(tmp_path / "a", {"right": flags("10"), "loops": flags("10"), "reward": flags("10")})
    after = evaluation(tmp_path / "b", {"right": flags("10"), "loops": flags("10")}, suite_digest="other")
    about = json.loads((after / "manifest.json").read_text())
    about["evaluators"]["right"]["version"] = "2"
    about["evaluators"]["loops"]["arguments"] = "loops(window=3)"
    (after / "manifest.json").write_text(json.dumps(about))
    with pytest.raises(DataError) as caught:
        compare(before, after)
    for part in ("only the first has the evaluators reward", "right version 1 against 2", "loops() against loops(window=3)"):
        assert part in str(caught.value)


def test_refuses_what_is_not_finished(evaluation: EvaluationWriter, tmp_path: Path) -> None:
    """An evaluation without results, or whose results say that samples are missing, is no evidence."""
    evaluation(tmp_path / "a/eval/chat", {"right": flags("1010")})
    after = evaluation(tmp_path / "b/eval/chat", {"right": flags("1010")})
    edited(after, "results.json", complete=False)
    assert "not scored yet" in compare(tmp_path / "a/eval/chat", after).unfinished
    with pytest.raises(DataError, match="goes on where it stood"):
        compare_runs(tmp_path / "a", tmp_path / "b")
    (after / "results.json").unlink()
    with pytest.raises(DataError, match=r"holds no results\.json"):
        compare_runs(tmp_path / "a", tmp_path / "b")


def test_refuses_documents_of_something_else(evaluation: EvaluationWriter, tmp_path: Path) -> None:
    """A manifest that lacks what a comparison needs, or that is no JSON, is named with what is missing."""
    before, after = (evaluation(tmp_path / side, {"right": flags("10")}) for side in "ab")
    (after / "manifest.json").write_text('{"suite": "chat"}')
    with pytest.raises(DataError, match=r"manifest\.json lacks suite_version, suite_digest"):
        compare(before, after)
    (after / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        compare(before, after)


def test_partial_evaluations_of_one_limit_compare(evaluation: EvaluationWriter, tmp_path: Path) -> None:
    """Two looks at the same first prompts compare, and the reader is told that they are looks."""
    folders = [evaluation(tmp_path / side, {"right": flags("10")}, limit=2) for side in "ab"]
    found = compare(*folders)
    assert found.unfinished == ""
    assert any("first 2 prompts" in note for note in found.notes)


def test_notes_what_a_reader_should_know(evaluation: EvaluationWriter, tmp_path: Path) -> None:
    """The same weights on both sides, other library versions, and margins against unlike bases are told, not refused."""
    before = evaluation(tmp_path / "a", {"right": flags("10")}, model_digest="w", versions={"torch": "2.12.0"})
    after = evaluation(tmp_path / "b", {"right": flags("10")}, model_digest="w", base_digest="other")
    for folder in (before, after):
        about = json.loads((folder / "manifest.json").read_text())
        about["evaluators"]["right"]["needs"] = "base_logp"
        (folder / "manifest.json").write_text(json.dumps(about))
    told = " ".join(compare(before, after).notes)
    for part in ("same weights", "torch 2.12.0 against 2.13.0", "a base of its own"):
        assert part in told


def test_runs_are_compared_suite_by_suite(evaluation: EvaluationWriter, tmp_path: Path) -> None:
    """Two run folders compare on all suites that both have; the others are named; a run alone is base against aligned."""
    for name, suites in (("a", ("chat", "code", "old")), ("b", ("chat", "code", "new")), ("b/base", ("chat",))):
        for suite in suites:
            evaluation(tmp_path / name / "eval" / suite, {"right": flags("1010")}, suite=suite)
    found, left_out = compare_runs(tmp_path / "a", tmp_path / "b")
    assert [one.suite for one in found] == ["chat", "code"]
    assert left_out == ("new", "old")
    (alone,), left_out = compare_runs(tmp_path / "b")
    assert str(tmp_path / "b/base/eval/chat") in alone.before["digest"]
    assert left_out == ("code", "new")
    (one,), _ = compare_runs(tmp_path / "a/eval/code", tmp_path / "b")
    assert one.suite == "code"


def test_runs_that_cannot_be_compared(evaluation: EvaluationWriter, tmp_path: Path) -> None:
    """A folder that is not there, one without evaluations, runs that share no suite, a run without a base: each is said."""
    evaluation(tmp_path / "a/eval/chat", {"right": flags("10")})
    evaluation(tmp_path / "b/eval/code", {"right": flags("10")}, suite="code")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="There is no folder"):
        compare_runs(tmp_path / "nowhere", tmp_path / "a")
    with pytest.raises(DataError, match=r"There is no folder \S*nowhere \("):
        compare_runs(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no evaluation"):
        compare_runs(tmp_path / "a", tmp_path / "empty")
    with pytest.raises(DataError, match=r"share no suite: .*a has chat; .*b has code"):
        compare_runs(tmp_path / "a", tmp_path / "b")
    with pytest.raises(DataError, match="holds no base/"):
        compare_runs(tmp_path / "a")


def test_a_look_never_passes_for_the_whole(evaluation: EvaluationWriter, tmp_path: Path) -> None:
    """Beside the whole suite a run may hold its first prompts alone; each matches its like, under a name of its own."""
    for name in ("a", "b"):
        evaluation(tmp_path / name / "eval/chat", {"right": flags("1010")})
        evaluation(tmp_path / name / "eval/chat-limit-2", {"right": flags("10")}, limit=2)
    evaluation(tmp_path / "look/eval/chat-limit-2", {"right": flags("10")}, limit=2)
    found, left_out = compare_runs(tmp_path / "a", tmp_path / "b")
    assert [one.name for one in found] == ["chat", "chat-limit-2"]
    assert left_out == ()
    (one,), left_out = compare_runs(tmp_path / "a", tmp_path / "look")
    assert (one.name, left_out) == ("chat-limit-2", ("chat",))


def test_folders_of_eval_out(evaluation: EvaluationWriter, tmp_path: Path) -> None:
    """What `dpoframe eval --out` writes, suites right in the folder and the base's under base/, compares like a run."""
    for place in ("a/chat", "b/chat", "b/base/chat"):
        evaluation(tmp_path / place, {"right": flags("1010")})
    assert [one.name for one in compare_runs(tmp_path / "a", tmp_path / "b")[0]] == ["chat"]
    assert [one.name for one in compare_runs(tmp_path / "b")[0]] == ["chat"]


@dataclass(frozen=True)
class Ratio(Evaluator):
    """Vowels of all answers over all their letters: no mean of per-answer ratios."""

    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec(
        "vowels",
        "1",
        "response",
        {"vowels": Scale(0.0, None, "letters"), "letters": Scale(0.0, None, "letters", None)},
        "ratio",
        aggregates={"ratio": Scale(0.0, 1.0, "share")},
    )

    def score(self, sample: Sample) -> Mapping[str, float] | None:
        """The two counts."""
        text = str(sample.response)
        return {"vowels": float(sum(letter in "aeiou" for letter in text)), "letters": float(len(text) + 1)}

    def aggregate(self, scores: Sequence[Scored]) -> Mapping[str, float]:
        """Their ratio over all answers."""
        return {"ratio": sum(one.values["vowels"] for one in scores) / sum(one.values["letters"] for one in scores)}


def test_aggregates_are_compared(suite_file: Path, plugins: PluginHost, subject: Subject, other: Subject, tmp_path: Path) -> None:
    """A figure over all samples has the difference of the two figures, an interval and a p value; base against itself is 0."""
    suite = replace(load_suite(suite_file, plugins), evaluators=(Ratio(),))
    run_suite(subject, suite, tmp_path / "a")
    run_suite(other, suite, tmp_path / "b", base=subject)
    found = compare(tmp_path / "a", tmp_path / "b", [Ratio()])
    one = found["vowels"]
    assert one.aggregate
    assert one.primary
    assert one.difference.value == pytest.approx(one.after.value - one.before.value)
    assert one.difference.low <= one.difference.value <= one.difference.high
    assert one.p_value is not None
    figures = json.loads((tmp_path / "b/results.json").read_text())["metrics"]["vowels"]
    assert (one.after.value, one.after.low) == pytest.approx((figures["value"], figures["ci_low"]))
    same = compare(tmp_path / "a", tmp_path / "a", [Ratio()])["vowels"]
    assert (same.difference.value, same.difference.low, same.difference.high) == (0.0, 0.0, 0.0)


def test_aggregates_without_their_evaluator(
    suite_file: Path, plugins: PluginHost, subject: Subject, other: Subject, tmp_path: Path
) -> None:
    """Where the evaluator cannot be had, the difference of its figure is left out with a word; the means stay."""
    suite = replace(load_suite(suite_file, plugins), evaluators=(Ratio(),))
    run_suite(subject, suite, tmp_path / "a")
    run_suite(other, suite, tmp_path / "b", base=subject)
    suite_file.unlink()
    found = compare(tmp_path / "a", tmp_path / "b")
    assert {one.metric for one in found.differences} == {"vowels/vowels", "vowels/letters"}
    assert any("vowels is left out" in note for note in found.notes)


def hangs(*given: Any) -> Mapping[str, float]:
    """Never comes back."""
    while True:
        time.sleep(0.01)


def ends(*given: Any) -> Mapping[str, float]:
    """Ends the program as if all were done."""
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("aggregate", "told"), [(hangs, "PluginError: aggregate was stopped at its limit of 0.2 s"), (ends, "SystemExit: 0")]
)
def test_an_aggregate_that_hangs_or_exits_costs_its_figure_alone(
    aggregate: Any,
    told: str,
    suite_file: Path,
    plugins: PluginHost,
    subject: Subject,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A comparison ends, and says why the figure has no difference; the evaluator's means are compared."""
    suite = replace(load_suite(suite_file, plugins), evaluators=(Ratio(),))
    run_suite(subject, suite, tmp_path / "a")
    monkeypatch.setattr(Ratio, "spec", replace(Ratio.spec, limit=0.2))
    monkeypatch.setattr(Ratio, "aggregate", aggregate)
    found = compare(tmp_path / "a", tmp_path / "a", [Ratio()])
    assert {one.metric for one in found.differences} == {"vowels/vowels", "vowels/letters"}
    assert f"vowels could not aggregate: {told}" in found.notes


@dataclass(frozen=True)
class Scaled(Ratio):
    """The ratio times a number that the suite gives."""

    times: float = 1.0

    def aggregate(self, scores: Sequence[Scored]) -> Mapping[str, float]:
        """As the ratio."""
        return {"ratio": self.times * super().aggregate(scores)["ratio"]}


class ScaledPlugin:
    """Supplies it."""

    @hookimpl
    def dpoframe_evaluators(self) -> Mapping[str, type[Evaluator]]:
        """By its name."""
        return {"scaled": Scaled}


def test_evaluators_are_had_where_the_prompts_are_not(
    plugins: PluginHost, subject: Subject, other: Subject, tmp_path: Path
) -> None:
    """Prompts and evaluators were set on the command line: the figure is formed again as it was set, without the prompts."""
    plugins.register(ScaledPlugin(), "scaling")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"id": str(n), "prompt": f"say {n}"}) + "\n" for n in range(6)))
    file = tmp_path / "suite.yaml"
    file.write_text("name: bare\nversion: 1\nprompts: absent.jsonl\nevaluators: [scaled]\n")
    changes = [f"prompts={tmp_path / 'rows.jsonl'}", "evaluators.0={name: scaled, times: 0.5}"]
    suite = load_suite(file, plugins, changes)
    run_suite(subject, suite, tmp_path / "a")
    run_suite(other, suite, tmp_path / "b", base=subject)
    with using(plugins):
        found = compare(tmp_path / "a", tmp_path / "b")
    assert json.loads((tmp_path / "b" / "manifest.json").read_text())["suite_changes"] == changes[1:]
    assert found["vowels"].after.value == json.loads((tmp_path / "b" / "results.json").read_text())["metrics"]["vowels"]["value"]
    file.unlink()
    with using(plugins):
        told = compare(tmp_path / "a", tmp_path / "b").notes
    assert any("could not be loaded" in note for note in told)
