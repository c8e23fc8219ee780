"""Halves of characters, which JSON can spell and no file can hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from dpoframe import PreferencePair, Request, Sample, hookimpl
from dpoframe.errors import ConfigError
from dpoframe.harness import EvalFolder, Subject, load_suite, run_suite
from dpoframe.harness.storage.store import opened
from dpoframe.harness.storage.texts import all_well_formed, is_well_formed, well_formed
from dpoframe.plugins import PluginHost
from dpoframe.testing.toy import ToyModality


class Halves(ToyModality):
    """Answers with half a character."""

    def generate(self, model: Any, requests: Sequence[Request]) -> Iterator[Sample]:
        """The same for all."""
        for one in requests:
            yield Sample(one.id, one.prompt, "a\ud800b", meta={"thought\udc00": ["\udfff"]})


def test_halves_are_replaced() -> None:
    """A lone surrogate becomes U+FFFD wherever it stands, two that belong together their character, all else stays."""
    assert well_formed("a\ud800b\ud83d\ude00") == "a\ufffdb\U0001f600"
    assert all_well_formed({"\udc00": ["x", ("\ud800", 1, None)]}) == {"\ufffd": ["x", ["\ufffd", 1, None]]}
    assert is_well_formed({"a": ["\U0001f600", 1.5, b"\xff"]})
    assert not is_well_formed({"a": [{"\ud800": 1}]})


def test_a_suite_survives_half_a_character(suite_file: Path, plugins: PluginHost, tmp_path: Path) -> None:
    """Answers with half a character are exported whole, in every format, also those that a store holds from before."""
    modality = Halves()
    subject, suite = Subject("halves", modality, modality.build()), load_suite(suite_file, plugins)
    run_suite(subject, suite, tmp_path / "out")
    assert {row.response for row in EvalFolder(tmp_path / "out").samples()} == {"a\ufffdb"}
    assert set(parquet.read_table(tmp_path / "out" / "samples.parquet")["response"].to_pylist()) == {"a\ufffdb"}
    EvalFolder(tmp_path / "out").write_table([json.dumps({**_row(), "response": "\ud800", "meta": {"a": "\ud800"}})])
    assert parquet.read_table(tmp_path / "out" / "samples.parquet")["response"].to_pylist() == ["\ufffd"]
    with opened(tmp_path / "out") as store:
        (content,) = {text for (text,) in store.database.execute("SELECT content FROM samples")}
    assert "ud800" not in content


def _row() -> dict[str, Any]:
    return {"key": "k", "id": "i", "prompt": "p", "response": "r", "finished": True, "detail": {}, "meta": {}}


def test_documents_hold_halves_as_json_spells_them(tmp_path: Path) -> None:
    """A document is written whatever its texts are, and reads back as it was given."""
    EvalFolder(tmp_path).write_document("manifest.json", {"name": "\ud800"})
    assert EvalFolder(tmp_path).document("manifest.json") == {"name": "\ud800"}


@pytest.mark.parametrize("key", ["id", "prompt", "expect"])
def test_a_prompt_with_half_a_character_is_refused(key: str, suite_file: Path, plugins: PluginHost) -> None:
    """Before any answer is made, with file and line."""
    rows = [{"id": "a", "prompt": "say a"}, {"id": "b", "prompt": "say b", key: "\ud800"}]
    suite_file.with_name("prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ConfigError, match=r"prompts\.jsonl:2: holds half a character"):
        load_suite(suite_file, plugins)


def test_rows_that_are_kept(suite_file: Path, plugins: PluginHost) -> None:
    """Whole characters beyond the first plane, escaped as two halves, are no fault."""
    suite_file.with_name("prompts.jsonl").write_text('{"id": "a", "prompt": "\\ud83d\\ude00"}\n')
    (prompt,) = replace(load_suite(suite_file, plugins), evaluators=()).prompts
    assert prompt.content == "\U0001f600"


def test_pairs_with_half_a_character_are_refused(tmp_path: Path, plugins: PluginHost) -> None:
    """A plugin's data set may yield what no file can hold: the pair is named, before any model is asked."""

    class Halves:
        """Supplies such pairs."""

        @hookimpl
        def dpoframe_datasets(self) -> dict[str, Any]:
            """One whole, one with half a character in its answer, one in what it says besides."""
            whole, half = ("p", "good", "bad", "one"), "\ud83d"
            return {
                "halves": lambda: [
                    PreferencePair(*whole),
                    PreferencePair("q", half, "bad", "two"),
                    PreferencePair("r", "good", "bad", "three", meta={"source": half}),
                ]
            }

    plugins.register(Halves(), "halves")
    file = tmp_path / "suite.yaml"
    for section in ("prompts: {name: halves}", "prompts: [hello]\npairs: {name: halves}"):
        file.write_text(f"name: halves\nversion: 1\nevaluators: [response_length]\n{section}\n")
        with pytest.raises(ConfigError, match=r":two: holds half a character(.|\n)*:three: holds half a character"):
            load_suite(file, plugins)
