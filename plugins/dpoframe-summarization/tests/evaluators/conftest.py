"""Real summaries where they are at hand, and samples made of texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpoframe import Sample

DATA = Path(__file__).parents[4].parent / "shared" / "data" / "summarization"


@pytest.fixture(scope="session")
def summeval() -> list[dict[str, Any]]:
    """SummEval: 100 articles, each with 11 references and 16 rated summaries; skips where it is not at hand."""
    file = DATA / "summeval_100x16.jsonl"
    if not file.is_file():
        pytest.skip(f"SummEval is not at hand: it would be {file}")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def scitldr() -> list[dict[str, Any]]:
    """SciTLDR's development rows: abstracts as lists of sentences; skips where they are not at hand."""
    file = DATA / "scitldr_A_dev.jsonl"
    if not file.is_file():
        pytest.skip(f"SciTLDR is not at hand: it would be {file}")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def summary() -> Callable[..., Sample]:
    """Makes a sample of a summary, with what its row knows by keyword."""
    return lambda text, **meta: Sample("s", "Summarize.", text, meta=meta)
