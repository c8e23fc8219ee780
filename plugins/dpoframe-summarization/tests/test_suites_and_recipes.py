"""The shipped suites and recipes: parsed with data, told apart from what is missing, and run by a model of known answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dpoframe_summarization
import pytest
import torch
from dpoframe_summarization.readers.documents import SciTldr
from dpoframe_summarization.readers.summeval import DIMENSIONS
from torch import Tensor, nn

from dpoframe import Example, MachineError, Modality, Request, Sample, Scores, as_text
from dpoframe.cli import main
from dpoframe.harness import Subject, load_suite, run_suite

SUITES = dpoframe_summarization.dpoframe_suites()
RECIPES = dpoframe_summarization.dpoframe_recipes()
PAPERS = str(SciTldr.example_options["path"])


@dataclass(frozen=True)
class Echo(Modality):
    """Answers with the first sentence of what it is asked to summarize; likes short responses."""

    def build(self) -> nn.Module:
        """Nothing that learns."""
        return nn.Linear(1, 1)

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Lengths in characters."""
        return {"length": torch.tensor([float(len(as_text(one.response))) for one in examples])}

    def score(self, model: nn.Module, batch: dict[str, Tensor]) -> Scores:
        """Minus the length, with a weight that training would change."""
        return Scores(-batch["length"] * model.weight.sum().abs(), batch["length"])

    def generate(self, model: nn.Module, requests: Sequence[Request]) -> Iterator[Sample]:
        """The first sentence after the instruction."""
        for request in requests:
            source = as_text(request.prompt).partition("\n\n")[2]
            yield Sample(request.id, request.prompt, source.partition(". ")[0] + ".", detail={"length": 9.0})


@pytest.fixture
def rated(tmp_path: Path) -> str:
    """Twenty articles with three rated summaries each."""
    rows = []
    for n in range(20):
        source = f"Ann Bell bought {n + 2} boats in Oldport. They had cost {n + 50} euros. Nobody else bid for them that day."
        texts = (
            f"Ann Bell bought {n + 2} boats in Oldport.",
            "She bought some boats there that day.",
            "Boats were bid for by Oldport.",
        )
        given = [{"summary": text, "system": f"M{k}", **dict.fromkeys(DIMENSIONS, 5 - k)} for k, text in enumerate(texts)]
        rows.append({"doc_id": f"a{n}", "source": source, "references": [texts[0]], "outputs": given})
    path = tmp_path / "rated.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def figures(suite: str, path: str, out: Path) -> dict[str, Any]:
    """What a suite says of the model that echoes, by metric."""
    kept = "hallucination, rouge, extractive, summary_length, preference_accuracy, finished"
    changes = [f"prompts.path={path}", f"pairs.path={path}", f"evaluators=[{kept}]"]
    modality = Echo()
    model = modality.build()
    run_suite(Subject("echo", modality, model), load_suite(SUITES[suite], overrides=changes), out)
    return dict(json.loads((out / "results.json").read_text())["metrics"])


@pytest.mark.parametrize("name", sorted(SUITES))
def test_suite_without_its_articles(name: str) -> None:
    """Without a path each suite says how the articles are had, and where the path is named."""
    with pytest.raises(MachineError, match=r"(?s)No path is given.*not part of this package.*--set prompts.path=FILE"):
        load_suite(SUITES[name])


def test_faithful_suite(tmp_path: Path, rated: str) -> None:
    """The suite asks for held-out articles alone, knows source and published summary, and scores an echo as faithful."""
    suite = load_suite(SUITES["summarize-faithful"], overrides=[f"prompts.path={rated}", f"pairs.path={rated}"])
    assert suite.name == "summarize-faithful"
    assert 2 <= len(suite.prompts) <= 14
    assert {pair.meta["article"] for pair in suite.pairs} == {prompt.meta["article"] for prompt in suite.prompts}
    assert all(prompt.meta["reference"].startswith("Ann Bell bought") for prompt in suite.prompts)
    assert all(prompt.meta["source"] in as_text(prompt.content) for prompt in suite.prompts)
    found = figures("summarize-faithful", rated, tmp_path / "out")
    assert (found["hallucination"]["value"], found["rouge:porter:rule:ascii"]["value"], found["extractive"]["value"]) == (0, 1, 1)
    assert found["summary_length"]["value"] == 7
    assert found["finished"]["value"] == 1
    assert not any(metric["unscored"] for metric in found.values())


def test_concise_suite(tmp_path: Path) -> None:
    """The suite asks for one sentence of each abstract; its pairs are the author's sentence over the abstract's beginning."""
    suite = load_suite(SUITES["summarize-concise"], overrides=[f"prompts.path={PAPERS}", f"pairs.path={PAPERS}"])
    assert (suite.name, len(suite.prompts), len(suite.pairs)) == ("summarize-concise", 3, 3)
    assert all(len(as_text(pair.chosen)) < len(as_text(pair.rejected)) for pair in suite.pairs)
    found = figures("summarize-concise", PAPERS, tmp_path / "out")
    assert found["hallucination"]["value"] == 0
    assert 0 < found["rouge:porter:rule:ascii"]["value"] < 1


@pytest.mark.parametrize("rows", ["rated_summaries, ratings: [stars]", "corrupted_summaries"])
@pytest.mark.parametrize("name", sorted(SUITES))
def test_articles_of_ones_own(name: str, rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Recipe and suite take a table of one's own, with ratings or without: one section each is exchanged."""
    path = tmp_path / "mine.csv"
    lines = [f'"Ann Bell met Bob Hill on {n} May. It was late that day.",{text},{stars}' for n in range(3, 23)
             for text, stars in ((f"Ann Bell met Bob Hill on {n} May.", 5), ("They met late that day.", 2))]  # fmt: skip
    path.write_text("\n".join(["body,tldr,stars", *lines]))
    own = f"name: {rows}, path: {path}, columns: {{source: body, summary: tldr}}"
    assert main(["config", name, "--set", f"data={{{own}, part: train}}"]) == 0
    assert "columns:" in capsys.readouterr().out
    suite = load_suite(SUITES[name], overrides=[f"{key}={{{own}, part: test}}" for key in ("prompts", "pairs")])
    assert suite.prompts
    assert suite.pairs
    assert all(prompt.meta["reference"].startswith("Ann Bell") for prompt in suite.prompts)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipe_parses(name: str, rated: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each recipe is read without a fault once its data are there, and its pairs fit what it says."""
    path = PAPERS if name == "summarize-concise" else rated
    assert main(["config", name, "--set", f"data.path={path}"]) == 0
    assert "truncate_prompt: keep_start" in capsys.readouterr().out


def test_recipe_and_suite_share_no_article(rated: str) -> None:
    """What the recipe `summarize-faithful` trains on and what its suite asks are divided by the same rule."""
    import yaml

    recipe = yaml.safe_load(RECIPES["summarize-faithful"].read_text())["data"]
    suite = yaml.safe_load(SUITES["summarize-faithful"].read_text())
    assert (recipe["part"], {suite[key]["part"] for key in ("prompts", "pairs")}) == ("train", {"test"})
    assert {suite[key]["held_out"] for key in ("prompts", "pairs")} == {recipe["held_out"]}
    shared = ("tidy", "max_source_words")
    assert all(suite[key][name] == recipe[name] for key in ("prompts", "pairs") for name in shared)
