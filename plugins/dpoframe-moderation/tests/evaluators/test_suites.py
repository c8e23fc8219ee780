"""The suites: parsed, without their files, and run through the harness by a model whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import dpoframe_moderation
import pytest
import torch
from dpoframe_moderation.evaluators.profanity import Profanity
from dpoframe_moderation.moderation_texts import moderation_texts
from torch import Tensor, nn

from dpoframe import ConfigError, Example, MachineError, Modality, Refused, Request, Sample, Scores, as_text
from dpoframe.harness import Subject, load_suite, run_suite
from dpoframe.testing import DatasetContract

SUITES = dpoframe_moderation.dpoframe_suites()
EXAMPLES = Path(dpoframe_moderation.__file__).parent / "readers" / "examples"
DATA = Path(__file__).parents[4].parent / "shared" / "data" / "moderation"
FILES = {"moderate": "openai.jsonl", "xstest": "xstest.csv", "hatecheck": "hatecheck.csv", "harmless": "xstest.csv"}
REAL = {"openai.jsonl": "openai_moderation_samples-1680.jsonl.gz", "xstest.csv": "xstest_prompts.csv"}
REAL["hatecheck.csv"] = "hatecheck_test_suite_cases.csv"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the published files are not in {DATA}")
needs_profanity = pytest.mark.skipif(isinstance(Profanity().probe(), Refused), reason="alt-profanity-check is not installed")


@dataclass(frozen=True)
class Guard(Modality):
    """Calls unsafe what holds one of its words, in text and by a log-probability of -.1 against -2.3."""

    words: tuple[str, ...] = ("hate", "kill")

    def build(self) -> nn.Module:
        """Nothing that learns."""
        return nn.Linear(1, 1)

    def flags(self, prompt: Any) -> bool:
        """Whether the text holds a word."""
        return any(word in as_text(prompt).rpartition("Text: ")[2].partition("\n\nIs this text")[0].lower() for word in self.words)

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """One log-probability an answer."""
        sides = [self.flags(one.prompt) is not str(one.response).startswith(("safe", "not ")) for one in examples]
        return {"value": torch.tensor([-0.1 if side else -2.3 for side in sides])}

    def score(self, model: nn.Module, batch: dict[str, Tensor]) -> Scores:
        """As it was laid down."""
        return Scores(batch["value"], torch.ones_like(batch["value"]))

    def generate(self, model: nn.Module, requests: Sequence[Request]) -> Iterator[Sample]:
        """The verdict."""
        for request in requests:
            answer = "unsafe\nhate" if self.flags(request.prompt) else "safe"
            yield Sample(request.id, request.prompt, answer, detail={"length": 1.0})


class TestModerationTexts(DatasetContract):
    """The contract of every data set, on the one that suites read."""

    dataset = staticmethod(moderation_texts)
    options: ClassVar[Mapping[str, Any]] = moderation_texts.example_options  # type: ignore[attr-defined]


def paths(name: str, folder: Path = EXAMPLES) -> list[str]:
    """The settings that name a suite's files."""
    example = FILES[name.removesuffix("-generative")]
    path = EXAMPLES / example if folder == EXAMPLES else folder / REAL[example]
    return [f"prompts.path={path}", *([f"pairs.path={path}"] if name != "harmless" else [])]


def results(out: Path, name: str, *changes: str, folder: Path = EXAMPLES) -> dict[str, Any]:
    """The figures of a suite by name."""
    modality = Guard()
    run_suite(
        Subject("guard", modality, modality.build()), load_suite(SUITES[name], overrides=[*paths(name, folder), *changes]), out
    )
    return dict(json.loads((out / "results.json").read_text())["metrics"])


def test_all_suites_are_there() -> None:
    """The four suites, and those of a moderator in three for a chat model as well."""
    assert set(SUITES) >= {*FILES, "moderate-generative", "xstest-generative", "hatecheck-generative"}


@pytest.mark.parametrize("name", [one for one in sorted(SUITES) if one.removesuffix("-generative") in FILES])
def test_every_suite_parses(name: str) -> None:
    """Each suite loads under its name once it has its file, and asks text of a classifier, chat of a chat model."""
    if name == "harmless" and isinstance(Profanity().probe(), Refused):
        pytest.skip("alt-profanity-check is not installed")
    suite = load_suite(
        SUITES[name], overrides=[*paths(name), "prompts.part=all", *([] if name == "harmless" else ["pairs.part=all"])]
    )
    assert suite.name == name
    assert suite.prompts
    assert bool(suite.pairs) == (name != "harmless")
    chat = name.endswith("-generative") or name == "harmless"
    assert all(isinstance(request.prompt, str) is not chat for request in suite.requests())


@pytest.mark.parametrize("name", sorted(FILES))
def test_suite_without_its_file(name: str) -> None:
    """Without a file the suite says what gets it, and where it is named; a file that is not there is told as well."""
    with pytest.raises(MachineError, match=r"(?s)No file of texts is given.*--set prompts.path=FILE.*curl -LO https://"):
        load_suite(SUITES[name])
    with pytest.raises(ConfigError, match=r"(?s)nowhere.csv is not there.*curl -LO"):
        load_suite(SUITES[name], overrides=["prompts.path=nowhere.csv"])


def test_broken_row_stops_the_suite(tmp_path: Path) -> None:
    """A benchmark with a broken row is not measured as if it were whole: file, row and reason are told."""
    path = tmp_path / "cases.csv"
    path.write_text("case_id,test_case,label_gold,functionality\n1,I hate you.,hateful,x\n2,I like you.,perhaps,x\n")
    with pytest.raises(ConfigError, match=r"cases\.csv:2: 'label_gold' must be hateful or non-hateful"):
        load_suite(SUITES["hatecheck"], overrides=[f"prompts.path={path}", f"pairs.path={path}"])


def test_rows_that_judge_nobody_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Repeated, contradicting and unlabelled texts are left out, and it is said how many of each."""
    path = tmp_path / "samples.jsonl"
    rows = [{"prompt": "a", "H": 1}, {"prompt": "a", "H": 1}, {"prompt": "b", "H": 1}, {"prompt": "b", "H": 0}, {"prompt": "c"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = [f"prompts.path={path}", f"pairs.path={path}", "prompts.part=all", "pairs.part=all"]
    suite = load_suite(SUITES["moderate"], overrides=changes)
    assert [prompt.content for prompt in suite.prompts] == ["a"]
    assert "4 rows of" in (said := capsys.readouterr().err)
    assert "2 contradiction, 1 duplicate, 1 unlabelled" in said


def test_own_texts(tmp_path: Path) -> None:
    """A suite of one's own posts: their columns are the categories, and each has its figures."""
    (tmp_path / "posts.csv").write_text("post,insult,spam\nI hate you,1,0\nbuy this,0,1\nhello,0,0\nI hate spam,0,\n")
    section = f"{{name: moderation_texts, source: labelled_texts, path: {tmp_path}/posts.csv, text: post, labels: [insult, spam]}}"
    (tmp_path / "mine.yaml").write_text(
        f"name: mine\nversion: 1\nprompts: {section}\npairs: {section}\nevaluators:\n"
        "  - {name: moderation, categories: [insult, spam]}\n  - {name: moderation_scores, categories: [insult, spam]}\n"
    )
    modality = Guard()
    run_suite(Subject("guard", modality, modality.build()), load_suite(str(tmp_path / "mine.yaml")), tmp_path / "out")
    found = json.loads((tmp_path / "out" / "results.json").read_text())["metrics"]
    # The last post is of an unknown kind of spam: it counts for `insult`, and not for the verdict.
    assert (found["moderation/accuracy"]["value"], found["moderation/accuracy"]["n"]) == (pytest.approx(2 / 3), 3)
    assert found["moderation_scores/insult/auroc"]["value"] == pytest.approx(5 / 6)
    assert found["moderation/spam/recall"]["n"] == 1


def test_columns_of_a_known_source() -> None:
    """A published data set has columns of its own, and naming others is an error."""
    with pytest.raises(ConfigError, match="leave out labels"):
        moderation_texts("hatecheck", "x.csv", labels=["hate"])


@pytest.mark.parametrize("name", ["hatecheck", "hatecheck-generative"])
@needs_data
def test_hatecheck_by_a_word_list(tmp_path: Path, name: str) -> None:
    """Both forms give the figures that counting by hand gives for a guard that knows two words, groups included."""
    import csv

    with (DATA / REAL["hatecheck.csv"]).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    kept = {row["test_case"]: row for row in rows}
    changes = [f"{part}.limit=400" for part in ("prompts", "pairs")]
    found = results(tmp_path / "out", name, *changes, folder=DATA)
    suite = load_suite(SUITES[name], overrides=[*paths(name, DATA), *changes])
    mine = [kept[prompt.meta["text"]] for prompt in suite.prompts]
    truth = [row["label_gold"] == "hateful" for row in mine]
    said = [Guard().flags(row["test_case"]) for row in mine]
    right = sum(one and two for one, two in zip(truth, said, strict=True))
    assert found["moderation"]["value"] == pytest.approx(2 * right / (sum(truth) + sum(said)))
    assert found["moderation/recall"]["value"] == pytest.approx(right / sum(truth))
    assert found["moderation/parse_failure"]["value"] == 0
    threats = [two for row, two in zip(mine, said, strict=True) if row["functionality"] == "derog_neg_emote_h"]
    assert found["moderation/functionality=derog_neg_emote_h/accuracy"]["value"] == pytest.approx(sum(threats) / len(threats))
    assert found["moderation_scores/f1"]["value"] > 0


@pytest.mark.parametrize("name", ["moderate", "moderate-generative"])
@needs_data
def test_openais_samples(tmp_path: Path, name: str) -> None:
    """On the real samples every category has its area, overall and category by category, with an interval."""
    found = results(tmp_path / "out", name, "prompts.limit=60", "pairs.limit=300", folder=DATA)
    for key in ("", "H/", "V/", "S/"):
        one = found[f"moderation_scores/{key}auroc"]
        assert 0 <= one["ci_low"] <= one["value"] <= one["ci_high"] <= 1
    assert found["moderation/recall"]["n"] > 0


@needs_profanity
def test_harmless(tmp_path: Path) -> None:
    """The suite of chat models gives refusals, and the worst of four answers with k in the figure's id."""
    found = results(tmp_path / "out", "harmless")
    assert found["refusal"]["value"] == 0
    assert found["refusal/over_refusal"]["value"] == 0
    assert found["refusal/under_refusal"]["value"] == 1
    assert found["toxicity:alt-profanity-check:k=4/complete"]["value"] == 1
    assert 0 <= found["toxicity:alt-profanity-check:k=4"]["value"] <= 1
