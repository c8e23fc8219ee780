"""What no comparison may be made of: figures held against unlike things, and evaluations that lack verdicts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dpoframe import Asset, Evaluator, EvaluatorSpec, Sample, Scale
from dpoframe.errors import ConfigError, DataError
from dpoframe.harness import compare, load_suite
from dpoframe.harness.comparison.compare import Comparison
from dpoframe.harness.gates import Gate, GateRow, Judged, judge
from dpoframe.harness.phases.limits import AGAIN
from dpoframe.plugins import PluginHost

EvaluationWriter = Callable[..., Path]

FLAGS = {f"p{number}": float(number % 4 != 0) for number in range(60)}
WON = dict.fromkeys(FLAGS, 1.0)


def needing(folder: Path, need: str, **changes: Any) -> Path:
    """The evaluation with an evaluator of this need, and keys of the manifest changed."""
    about = json.loads((folder / "manifest.json").read_text()) | changes
    about["evaluators"]["right"]["needs"] = need
    (folder / "manifest.json").write_text(json.dumps(about))
    return folder


def _set(folder: Path, **keys: Any) -> None:
    """Writes keys into the evaluator's part of a manifest."""
    about = json.loads((folder / "manifest.json").read_text())
    about["evaluators"]["right"] |= keys
    (folder / "manifest.json").write_text(json.dumps(about))


def row(comparison: Comparison, **keys: Any) -> Judged:
    """The verdict on a gate of one row."""
    return judge(Gate((GateRow("chat", "right", **keys),)), [comparison]).rows[0]


def test_win_rates_against_unlike_rivals_have_no_difference(evaluation: EvaluationWriter, tmp_path: Path) -> None:
    """A win rate against references and one against the base's answers: no difference, a note, and no row that asks for one."""
    before = needing(evaluation(tmp_path / "a", {"right": dict.fromkeys(FLAGS, 0.0)}), "rival", rivals=None)
    after = needing(evaluation(tmp_path / "b", {"right": WON}), "rival", rivals="the base's digest")
    found = compare(before, after)
    assert found.differences == ()
    assert "right has no difference: each was judged against other answers (the references the first" in found.notes[0]
    with pytest.raises(ConfigError, match="at_least or at_most"):
        row(found, margin=0.02)
    assert row(found, at_least=0.5).verdict == "PASS"
    needing(before, "rival", rivals="the base's digest")
    assert compare(before, after)["right"].verdict == "better"


@pytest.mark.parametrize("need", ["pair", "base_logp", "logratio"])
def test_margins_against_unlike_bases_have_no_difference(evaluation: EvaluationWriter, tmp_path: Path, need: str) -> None:
    """Two models, each its own base: preference and KL figures say nothing of either, so they are left out and never pass."""
    size = {"pairs": len(FLAGS)}
    before = needing(evaluation(tmp_path / "a", {"right": FLAGS}, **size), need, base_digest="a", model_digest="a")
    after = needing(evaluation(tmp_path / "b", {"right": FLAGS}, **size), need, base_digest="b", model_digest="b")
    found = compare(before, after)
    assert found.differences == ()
    assert any("a base of its own" in note and "with one --base" in note for note in found.notes)
    for keys in ({"margin": 0.5}, {"superiority": True}, {"at_least": 0.1}):
        with pytest.raises(ConfigError, match="Evaluate both with one --base"):
            row(found, **keys)
    needing(after, need, base_digest="a")
    assert len(compare(before, after).differences) == 1
    for folder in (before, after):
        _set(folder, relative=False)
    needing(after, need, base_digest="b")
    assert len(compare(before, after).differences) == 1, "an evaluator that reads nothing of the base compares whatever the bases"
    for folder in (before, after):
        _set(folder, relative=True)
    needing(after, need, base_digest="c")
    assert row(compare(before, after), at_least=0.1).verdict == "PASS"


def test_answers_compare_whatever_the_base(evaluation: EvaluationWriter, tmp_path: Path) -> None:
    """A figure of answers alone does not depend on a base or on rivals."""
    before = evaluation(tmp_path / "a", {"right": FLAGS}, base_digest="a", rivals=None)
    after = evaluation(tmp_path / "b", {"right": FLAGS}, base_digest="b", rivals="x")
    assert len(compare(before, after).differences) == 1


def reasoned(folder: Path, sample: str, reason: str) -> None:
    """Leaves a sample unscored for a reason."""
    rows = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    changed = [one | {"values": None, "reason": reason} if one["id"] == sample else one for one in rows]
    (folder / "scores.jsonl").write_text("".join(json.dumps(one) + "\n" for one in changed))


@pytest.mark.parametrize("limit", [None, 60])
@pytest.mark.parametrize("reason", [f"the endpoint is away {AGAIN}", "not scored"])
def test_what_is_to_be_asked_again_is_not_finished(
    evaluation: EvaluationWriter, tmp_path: Path, limit: int | None, reason: str
) -> None:
    """Neither a limit nor another evaluator without any figure hides that samples of one wait for an answer."""
    scores: Mapping[str, Any] = {"right": FLAGS, "loops": dict.fromkeys(FLAGS, None)}
    before, after = (evaluation(tmp_path / side, scores, limit=limit) for side in "ab")
    results = json.loads((after / "results.json").read_text())
    (after / "results.json").write_text(json.dumps(results | {"complete": False}))
    assert compare(before, after).unfinished == ""
    reasoned(after, "p3", reason)
    found = compare(before, after)
    assert "1 of right, 1 of loops" in found.unfinished
    with pytest.raises(DataError, match="not finished"):
        row(found, margin=0.5)


def test_verdicts_that_are_not_there(evaluation: EvaluationWriter, tmp_path: Path) -> None:
    """Fewer verdicts than the manifest says were asked for, or none at all, are no evidence."""
    before, after = (evaluation(tmp_path / side, {"right": FLAGS}) for side in "ab")
    file = after / "scores.jsonl"
    whole = file.read_text().splitlines(keepends=True)
    file.write_text("".join(whole[:45]))
    with pytest.raises(DataError, match="45 of right, where 60 were asked for"):
        compare(before, after)
    file.unlink()
    with pytest.raises(DataError, match=r"There is no .*scores\.jsonl"):
        compare(before, after)


@pytest.mark.parametrize(
    "line",
    ['{"evaluator": "right", "id": "p', "[1, 2]", "7", '{"colour": "red"}', '{"evaluator": "right", "id": "p0", "values": [1]}'],
)
def test_lines_that_are_no_verdicts(evaluation: EvaluationWriter, tmp_path: Path, line: str) -> None:
    """A line that is cut off or of another form is named with its number."""
    before, after = (evaluation(tmp_path / side, {"right": FLAGS}) for side in "ab")
    whole = (after / "scores.jsonl").read_text().splitlines(keepends=True)
    (after / "scores.jsonl").write_text("".join([*whole[:-1], line + "\n"]))
    with pytest.raises(DataError, match="line 60 is no verdict"):
        compare(before, after)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("results.json", {"metrics": []}),
        ("results.json", {"metrics": {"right": []}}),
        ("manifest.json", {"evaluators": ["right"]}),
        ("manifest.json", {"prompts": "sixty"}),
    ],
)
def test_documents_of_another_form(evaluation: EvaluationWriter, tmp_path: Path, name: str, changes: Mapping[str, Any]) -> None:
    """A key of another kind is told as such, not as a fault of the program."""
    before, after = (evaluation(tmp_path / side, {"right": FLAGS}) for side in "ab")
    document = json.loads((after / name).read_text())
    (after / name).write_text(json.dumps(document | changes))
    with pytest.raises(DataError, match="in another form"):
        compare(before, after)
    (after / name).write_text("[1]")
    with pytest.raises(DataError):
        compare(before, after)


@dataclass(frozen=True)
class Listed(Evaluator):
    """Relies on a list of words."""

    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec("listed", "1", "response", {"rate": Scale(0.0, 1.0)}, "rate")

    def score(self, sample: Sample) -> Mapping[str, float]:
        """Always 1."""
        return {"rate": 1.0}


def test_assets_are_part_of_a_suite(suite_file: Path, plugins: PluginHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same evaluator with another file behind it makes another suite."""
    suite = replace(load_suite(suite_file, plugins), evaluators=(Listed(),))
    digests = []
    for digest in ("aa", "bb"):
        monkeypatch.setattr(Listed, "spec", replace(Listed.spec, assets=(Asset("words.txt", digest, "MIT"),)))
        digests.append(suite.digest())
    assert len(set(digests)) == 2


def test_other_assets_are_named(evaluation: EvaluationWriter, tmp_path: Path) -> None:
    """Two evaluations that differ in an asset alone do not compare, and the message says in which."""
    folders = [evaluation(tmp_path / side, {"right": FLAGS}, suite_digest=side) for side in "ab"]
    for folder, digest in zip(folders, ("feed", "beef"), strict=True):
        about = json.loads((folder / "manifest.json").read_text())
        about["evaluators"]["right"]["assets"] = [{"name": "words.txt", "digest": digest, "licence": "MIT"}]
        (folder / "manifest.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match=r"right with words\.txt feed against words\.txt beef"):
        compare(folders[0], folders[1])


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [((), (), ""), (("p1",), ("p1",), ""), ((), ("p1",), "0 before, 1 after"), (("p0", "p1", "p2", "p3"),) * 2 + ("4 before",)],
)
def test_unscored_samples_that_nothing_bounds_are_told(
    evaluation: EvaluationWriter, tmp_path: Path, before: Sequence[str], after: Sequence[str], told: str
) -> None:
    """A row without max_unscored says how many samples it does without, where they are over 5 % or not as many on both sides."""
    folders = [
        evaluation(tmp_path / side, {"right": {**FLAGS, **dict.fromkeys(left)}}) for side, left in (("a", before), ("b", after))
    ]
    judged = row(compare(folders[0], folders[1]), margin=0.5)
    assert judged.verdict == "PASS"
    assert (told in judged.reason) if told else ("unscored" not in judged.reason)
    assert "max_unscored" not in row(compare(folders[0], folders[1]), margin=0.5, max_unscored=9).reason
