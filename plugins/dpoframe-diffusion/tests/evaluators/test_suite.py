"""Pictures through the harness: the suite partiprompts-mini, and evaluators on what a model drew."""

from __future__ import annotations

import importlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dpoframe_diffusion
import numpy as np
import pytest
import torch
import yaml
from dpoframe_diffusion.evaluators.clip_score import ClipScore
from PIL import Image
from torch import Tensor, nn

from dpoframe import Evaluator, Example, MachineError, Media, Modality, Request, Sample, Scores, UnscoredError, generator
from dpoframe.harness import EvalFolder, Subject, load_suite, run_suite

SUITE = Path(dpoframe_diffusion.__file__).parent / "suites" / "partiprompts-mini.yaml"


@dataclass(frozen=True)
class Painter(Modality):
    """Draws a coarse pattern from the request's seed; one prompt gets bytes that are no picture."""

    def build(self) -> nn.Module:
        """Nothing that learns."""
        return nn.Linear(1, 1)

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Nothing to read."""
        return {"one": torch.ones(len(examples))}

    def score(self, model: nn.Module, batch: dict[str, Tensor]) -> Scores:
        """No likelihood."""
        return Scores(batch["one"], batch["one"])

    def generate(self, model: nn.Module, requests: Sequence[Request]) -> Iterator[Sample]:
        """One picture a request."""
        for request in requests:
            coarse = torch.randint(0, 256, (4, 4, 3), generator=generator(request.seed), dtype=torch.uint8).numpy()
            buffer = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(coarse)).resize((40, 36), Image.Resampling.BICUBIC).save(buffer, "PNG")
            data = b"no picture" if request.prompt == "a fault" else buffer.getvalue()
            yield Sample(request.id, request.prompt, Media("image", data=data))


def test_every_name_is_an_evaluator() -> None:
    """Each registered name leads to an evaluator's class, whose spec has that name."""
    names = dpoframe_diffusion.dpoframe_evaluators()
    assert {"clip_score", "aesthetic", "pickscore", "image_reward", "hps", "kid", "image_diversity", "nsfw_rate"} <= set(names)
    for name, place in names.items():
        module, _, attribute = place.partition(":")
        kind = getattr(importlib.import_module(module), attribute)
        assert issubclass(kind, Evaluator)
        assert kind.spec.id == name


def test_the_suite_is_whole(clip_folder: Path) -> None:
    """36 prompts, three in each of twelve categories, none twice and each in one line; it loads where its weights are."""
    given = [f"evaluators.0.encoder={clip_folder}", f'evaluators.1={{"name": "pickscore", "model": "{clip_folder}"}}']
    suite = load_suite(SUITE, overrides=given)
    assert len(suite.prompts) == 36
    assert set(Counter(prompt.meta["category"] for prompt in suite.prompts).values()) == {3}
    assert len({str(prompt.content).lower() for prompt in suite.prompts}) == 36
    assert all(prompt.meta["challenge"] and "\n" not in str(prompt.content) for prompt in suite.prompts)
    assert suite.samples == 2


def plain(text: str) -> str:
    """A prompt's words alone, lower case."""
    return " ".join(re.findall(r"\w+", text.lower()))


def test_its_prompts_are_its_own() -> None:
    """No prompt is one of PartiPrompts."""
    published = Path(__file__).resolve().parents[5] / "shared" / "data" / "image_pref" / "partiprompts.json"
    if not published.is_file():
        pytest.skip(f"the published prompts are not here: {published}")
    theirs = {plain(row["prompt"]) for row in json.loads(published.read_text(encoding="utf-8"))}
    ours = {plain(row["prompt"]) for row in yaml.safe_load(SUITE.read_text(encoding="utf-8"))["prompts"]}
    assert len(theirs) > 1000
    assert not ours & theirs


def test_missing_weights_are_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the weights the suite is refused before anything is drawn, with the commands for all of them."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MachineError) as told:
        load_suite(SUITE)
    for name in ("openai/clip-vit-large-patch14", "yuvalkirstain/PickScore_v1"):
        assert f"hf download {name}" in str(told.value)


def test_pictures_are_scored_through_the_harness(tmp_path: Path, clip_folder: Path, reference_folder: Path) -> None:
    """A model's pictures are drawn, kept and scored; a second look at the kept ones gives the same, and a fault is a reason."""
    evaluators: list[dict[str, Any]] = [
        {"name": "clip_score", "encoder": str(clip_folder)},
        {"name": "kid", "references": str(reference_folder), "encoder": str(clip_folder), "subset_size": 4},
        {"name": "image_diversity", "encoder": str(clip_folder)},
    ]
    document = {
        "name": "drawn",
        "version": 1,
        "prompts": ["a red square", "a blue circle", "a dog", "a fault"],
        "samples": 2,
        "evaluators": evaluators,
    }
    (tmp_path / "drawn.yaml").write_text(json.dumps(document))
    suite, modality = load_suite(tmp_path / "drawn.yaml"), Painter()
    result = run_suite(Subject("painter", modality, modality.build()), suite, tmp_path / "out")
    folder = EvalFolder(tmp_path / "out")
    metric = result.metrics["clip_score:tiny-clip"]
    assert (metric.interval.n, metric.unscored) == (3, 2)
    by_hand = [ClipScore(str(clip_folder)).score(row.sample)["cosine"] for row in folder.samples() if row.prompt != "a fault"]
    assert metric.interval.value == pytest.approx(np.mean(by_hand), abs=1e-6)
    reasons = [one.reason for one in folder.scores() if one.values is None and one.evaluator == "clip_score:tiny-clip"]
    assert len(reasons) == 2
    assert all("no picture" in reason for reason in reasons)
    for name in ("kid:tiny-clip:real", "image_diversity:prompt:tiny-clip"):
        interval = result.metrics[name].interval
        assert interval.low < interval.value < interval.high
        assert interval.n == 3
    assert not any("/v0" in name for name in result.metrics)


def test_messages_say_what_is_wrong_with_a_prompt(clip_folder: Path) -> None:
    """A prompt that is a picture holds no words, and the sample says so."""
    picture = Media("image", data=b"x")
    with pytest.raises(UnscoredError):
        ClipScore(str(clip_folder)).score(Sample("x", picture, picture))
