"""Evaluating a causal language model: what does not depend on batches, and to which digit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dpoframe_text.adapters import LoraSection
from dpoframe_text.modality import TextModality

from dpoframe.harness import EvalFolder, Subject, load_suite, run_suite, subject

SUITE = """
name: chat
version: 1
prompts: prompts.jsonl
pairs: pairs.jsonl
generation: {max_new_tokens: 12, temperature: 0.8, top_k: 40}
samples: 2
evaluators: [response_length, distinct_n, finished, degeneration, base_logp, preference_accuracy, reward_margin]
"""


@pytest.fixture
def suite(tmp_path: Path) -> Any:
    """Prompts of unlike length, chat messages and plain text, and pairs."""
    words = ["hi", "the cat sat", "a dog and a cat on the mat", "red green blue " * 8, "how are you today?", "1 2 3"]
    rows = [{"prompt": text if number % 2 else [{"role": "user", "content": text}]} for number, text in enumerate(words)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [{"prompt": text, "chosen": f" yes {number}", "rejected": " no, never"} for number, text in enumerate(words)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    (tmp_path / "chat.yaml").write_text(SUITE)
    return load_suite(tmp_path / "chat.yaml")


def evaluated(tiny: Path, suite: Any, out: Path, **fields: Any) -> EvalFolder:
    """The tiny model against a base with other weights."""
    modality = TextModality(model=str(tiny), **fields)
    base = TextModality(model=str(tiny), random_init=1, **fields)
    run_suite(Subject("tiny", modality, modality.build()), suite, out, base=Subject("base", base, base.build()))
    return EvalFolder(out)


@pytest.mark.parametrize(("batch", "units"), [(1, 64), (16, 10**6)])
def test_batches_change_nothing(
    tiny: Path, suite: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, units: int
) -> None:
    """Answers are the same texts in any batch, ids and order too; scores differ by less than 1e-4 nats, figures by 1e-5."""
    first = evaluated(tiny, suite, tmp_path / "first", generation_batch=4)
    monkeypatch.setattr(subject, "UNITS_A_BATCH", units)
    second = evaluated(tiny, suite, tmp_path / "second", generation_batch=batch)
    plain = [[replace(row, detail={"length": row.detail["length"]}) for row in one.samples()] for one in (first, second)]
    assert plain[0] == plain[1]
    assert len({row.response for row in first.samples()}) > 6
    for one, other in zip([*first.samples(), *first.pairs()], [*second.samples(), *second.pairs()], strict=True):
        assert one.detail == pytest.approx(other.detail, abs=1e-4)
    figures = [one.document("results.json")["metrics"] for one in (first, second)]
    assert figures[0].keys() == figures[1].keys()
    for name, figure in figures[0].items():
        assert figure == pytest.approx(figures[1][name], rel=1e-5, abs=1e-5, nan_ok=True), name


def test_exports_are_byte_equal(tiny: Path, suite: Any, tmp_path: Path) -> None:
    """Two runs of a model with the same batches give the same bytes in every file, parquet included."""
    one, two = (evaluated(tiny, suite, tmp_path / name) for name in ("one", "two"))
    for file in sorted(path.name for path in one.path.iterdir() if path.is_file()):
        assert (one.path / file).read_bytes() == (two.path / file).read_bytes(), file


def test_loaded_anew_it_is_the_same_model(tiny: Path, suite: Any, tmp_path: Path) -> None:
    """A model saved and loaded again, adapter and all, has the digest it had in memory: its answers are not made twice."""
    modality = TextModality(model=str(tiny), lora=LoraSection(r=4))
    model = modality.build()
    (tmp_path / "saved").mkdir()
    modality.save(model, tmp_path / "saved")
    loaded = modality.load(tmp_path / "saved")
    assert Subject("a", modality, model).digest == Subject("b", modality, loaded).digest
