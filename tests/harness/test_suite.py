"""Suites: read strictly, every fault at once."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from dpoframe.errors import ConfigError, MachineError
from dpoframe.harness import Suite, load_suite
from dpoframe.harness.suites.needs import needs
from dpoframe.harness.suites.suite_file import read_suite
from dpoframe.plugins import PluginHost
from dpoframe.testing import toy


def test_reads_prompts_pairs_and_evaluators(suite_file: Path, plugins: PluginHost) -> None:
    """A suite holds the prompts of its file with their further fields, the pairs of its data set, and its evaluators."""
    suite = load_suite(suite_file, plugins)
    assert [prompt.id for prompt in suite.prompts] == ["p0", "p1", "p2", "p3", "p4"]
    assert suite.prompts[0].meta == {"expect": ["a"]}
    assert len(suite.pairs) == 12
    assert suite.evaluators[2].window == 4  # type: ignore[attr-defined]


def test_requests_have_own_seeds(suite_file: Path, plugins: PluginHost) -> None:
    """Every prompt is asked `samples` times, each time with a seed of its own that does not depend on the others."""
    requests = load_suite(suite_file, plugins).requests()
    assert [request.id for request in requests[:3]] == ["p0#0", "p0#1", "p1#0"]
    assert len({request.seed for request in requests}) == 10
    suite_file.with_name("prompts.jsonl").write_text('{"id": "p1", "prompt": "say b"}\n')
    assert load_suite(suite_file, plugins).requests()[0].seed == requests[2].seed


def test_every_fault_is_told(tmp_path: Path, plugins: PluginHost) -> None:
    """An unknown key of an evaluator, an unknown evaluator, a missing file and prompts that lack: one error names them all."""
    file = tmp_path / "bad.yaml"
    file.write_text(
        "name: bad\nversion: 1\nprompts: absent.jsonl\n"
        "evaluators: [{name: degeneration, windw: 3}, degenration, preference_accuracy]\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_suite(file, plugins)
    message = str(caught.value)
    for part in ("absent.jsonl", "windw", "Did you mean 'window'?", "degenration", "preference_accuracy", "held-out pairs"):
        assert part in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("name: x\nversion: 1\nevaluators: [finished]\nprompts: [a]\nsample: 3\n", "Did you mean 'samples'?"),
        ("name: x\nversion: 1\nprompts: [a]\nevaluators: []\n", "evaluators"),
        ("name: x\nversion: 1\nprompts: [a]\nevaluators: [finished]\nsamples: 0\n", "samples"),
        ("name: x\nversion: 1\nprompts: [{text: a}]\nevaluators: [finished]\n", "needs a key `prompt`"),
        (
            "name: x\nversion: 1\nprompts: [{id: a, prompt: x}, {id: a, prompt: y}]\nevaluators: [finished]\n",
            "two prompts with the id",
        ),
        ("name: x\nversion: 1\nprompts: [a]\nevaluators: [finished, finished]\n", "two evaluators that give"),
        ("- a\n", "must hold a mapping of keys"),
        ("a: [", "not valid YAML"),
    ],
)
def test_bad_suites(tmp_path: Path, plugins: PluginHost, text: str, part: str) -> None:
    """Each mistake is one clear ConfigError."""
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_suite(file, plugins)
    assert part in str(caught.value)


def test_bad_prompt_lines(suite_file: Path, plugins: PluginHost) -> None:
    """A line that is no JSON is named with file and line number."""
    suite_file.with_name("prompts.jsonl").write_text('{"prompt": "a"}\n{"prompt"\n')
    with pytest.raises(ConfigError, match=r"prompts\.jsonl:2"):
        load_suite(suite_file, plugins)


def test_unknown_suite(plugins: PluginHost, tmp_path: Path) -> None:
    """A name that nobody supplies, and a file that is not there, are ConfigErrors."""
    with pytest.raises(ConfigError, match="nosuch"):
        load_suite("nosuch", plugins)
    with pytest.raises(ConfigError, match="There is no file"):
        load_suite(tmp_path / "nosuch.yaml", plugins)


def test_digest_follows_content(suite_file: Path, plugins: PluginHost) -> None:
    """The digest stays the same for the same content, and changes with a prompt, a setting, or an evaluator's field."""
    first = load_suite(suite_file, plugins).digest()
    assert load_suite(suite_file, plugins).digest() == first
    text = suite_file.read_text()
    for old, new in (("window: 4", "window: 5"), ("max_new_tokens: 10", "max_new_tokens: 11"), ("count: 12", "count: 10")):
        suite_file.write_text(text.replace(old, new))
        assert load_suite(suite_file, plugins).digest() != first


def test_prompt_rows_end_at_line_feeds_alone(suite_file: Path, plugins: PluginHost) -> None:
    """A line separator or next-line mark inside a prompt, which JSON may hold as it is, does not end its row."""
    row = '{"id": "p", "prompt": "one\u2028two\x85three"}\n'
    (suite_file.parent / "prompts.jsonl").write_text(row, encoding="utf-8")
    assert load_suite(suite_file, plugins).prompts[0].content == "one\u2028two\x85three"


PLAIN = "name: x\nversion: 1\nevaluators: [finished]\n"


def suite_of(folder: Path, plugins: PluginHost, text: str, *changes: str) -> Suite:
    """A suite from a file in the folder."""
    file = folder / "made.yaml"
    file.write_text(PLAIN + text)
    return load_suite(file, plugins, changes)


ROWS = [{"question": "what?", "answer": "this", "kind": "a"}, {"question": "why?", "answer": "that", "kind": "b"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", "question,answer,kind\nwhat?,this,a\nwhy?,that,b\n"),
        ("rows.tsv", "question\tanswer\tkind\nwhat?\tthis\ta\nwhy?\tthat\tb\n"),
        ("rows.json", json.dumps(ROWS)),
        ("rows.jsonl", "\n".join(map(json.dumps, ROWS))),
    ],
)
def test_prompts_of_any_file(tmp_path: Path, plugins: PluginHost, name: str, content: str) -> None:
    """A file is read by its ending; columns are named, the others are the sample's facts, `limit` takes the first rows."""
    (tmp_path / name).write_text(content)
    suite = suite_of(tmp_path, plugins, f"prompts: {{path: {name}, field: question, reference: answer, id: kind}}\n")
    found = [(one.id, one.content, one.meta["reference"]) for one in suite.prompts]
    assert found == [("a", "what?", "this"), ("b", "why?", "that")]
    section = f"prompts: {{path: {name}, field: question, limit: 1}}\n"
    assert [one.content for one in suite_of(tmp_path, plugins, section).prompts] == ["what?"]


def test_prompts_of_text_and_parquet(tmp_path: Path, plugins: PluginHost) -> None:
    """A text file is one prompt a line; Parquet is read too, and its values that JSON cannot hold are left out."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "asks.txt").write_text("one\n\ntwo\n")
    assert [one.content for one in suite_of(tmp_path, plugins, "prompts: asks.txt\n").prompts] == ["one", "two"]
    pq.write_table(pa.table({"prompt": ["one"], "raw": [b"\x00"], "expect": [["a", "b"]]}), tmp_path / "asks.parquet")
    (prompt,) = suite_of(tmp_path, plugins, "prompts: asks.parquet\n").prompts
    assert (prompt.content, prompt.meta) == ("one", {"expect": ["a", "b"]})


def test_prompts_of_chat_messages(tmp_path: Path, plugins: PluginHost) -> None:
    """A list of messages may stand among the prompts as it is: it says what a row with a `prompt` says."""
    turns = "[{role: system, content: Be brief.}, {role: user, content: hi}]"
    suite = suite_of(tmp_path, plugins, f"prompts:\n- {turns}\n- plain\n")
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    assert [one.content for one in suite.prompts] == [said, "plain"]
    assert suite.digest() == suite_of(tmp_path, plugins, f"prompts:\n- {{prompt: {turns}}}\n- plain\n").digest()


def test_prompts_of_a_data_set(tmp_path: Path, plugins: PluginHost) -> None:
    """A data set gives each of its pairs' prompts once, with the chosen answer as the reference, and without places."""
    suite = suite_of(tmp_path, plugins, "prompts: {name: toy, count: 12}\n")
    pairs = toy.toy_pairs(12)
    assert [one.content for one in suite.prompts] == list(dict.fromkeys(pair.prompt for pair in pairs))  # type: ignore[arg-type]
    assert suite.prompts[0].meta["reference"] == pairs[0].chosen
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "p", "chosen": "good", "rejected": "bad", "kind": "k"}\n')
    suite = suite_of(tmp_path, plugins, "prompts: {path: pairs.jsonl, layout: plain}\n")
    assert suite.prompts[0].meta == {"reference": "good", "kind": "k"}


def test_few_shot_and_system(tmp_path: Path, plugins: PluginHost) -> None:
    """Requests come finished: system prompt and examples are in the prompt; a list and a file of examples say the same."""
    (tmp_path / "shots.jsonl").write_text('{"prompt": "a", "response": "1"}\n{"prompt": "b", "reference": "2"}\n')
    text = "prompts: [c]\nsystem: Be brief.\nform: chat\nfew_shot: {examples: %s, count: 2}\n"
    from_file = suite_of(tmp_path, plugins, text % "shots.jsonl")
    inline = suite_of(tmp_path, plugins, text % "[{prompt: a, response: '1'}, {prompt: b, chosen: '2'}]")
    asked: Any = from_file.requests()[0].prompt
    assert [turn["content"] for turn in asked] == ["Be brief.", "a", "1", "b", "2", "c"]
    assert inline.requests() == from_file.requests()
    assert inline.digest() == from_file.digest()
    assert suite_of(tmp_path, plugins, text % "shots.jsonl", "few_shot.count=1").digest() != from_file.digest()


def test_overrides(suite_file: Path, plugins: PluginHost) -> None:
    """`--set` changes any key; what it breaks is named as set by hand."""
    suite = load_suite(suite_file, plugins, ["samples=1", "generation.temperature=0", "evaluators.2.window=6"])
    assert (suite.samples, suite.generation["temperature"], suite.evaluators[2].window) == (1, 0, 6)  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"evaluators\.2\.windw \(--set\).*Did you mean 'window'"):
        load_suite(suite_file, plugins, ["evaluators.2.windw=6"])


def test_faults_of_every_section_at_once(tmp_path: Path, plugins: PluginHost) -> None:
    """A wrong key in one section hides no fault of another, and each is named with file and line."""
    (tmp_path / "rows.csv").write_text("question\nwhat?\n")
    file = tmp_path / "bad.yaml"
    file.write_text(
        "name: bad\nversion: 1\nsamplse: 2\nprompts: {path: rows.csv, field: questoin, limt: 3}\npairs: absent.jsonl\n"
        "few_shot: {examples: [{prompt: a}], tempalte: x}\nbackend: {kind: endpiont}\n"
        "evaluators:\n- {name: degeneration, windw: 3}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_suite(file, plugins)
    told = {fault.where: str(fault) for fault in caught.value.faults}
    assert "Did you mean 'samples'?" in told[f"samplse ({file}:3)"]
    assert "limt" in told[f"prompts.limt ({file}:4)"]
    assert "it has question" in told[f"{tmp_path / 'rows.csv'}:1"]
    assert "does not exist" in told[f"pairs ({file}:5)"]
    assert "Did you mean 'template'?" in told[f"few_shot.tempalte ({file}:6)"]
    assert "Did you mean 'endpoint'?" in told[f"backend.kind ({file}:7)"]
    assert "Did you mean 'window'?" in told[f"evaluators.0.windw ({file}:9)"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("prompts: {path: no.csv}\n", "no.csv does not exist"),
        ("prompts: {field: question}\n", "prompts.path"),
        ("prompts: {name: toy, cuont: 3}\n", "Did you mean 'count'?"),
        ("prompts: [[1]]\n", "should be text, a list of chat messages, or a mapping"),
        ("prompts: 3\n", "should be a list"),
        ("prompts: [a]\nfew_shot: {examples: [{prompt: a, response: b}], count: 3}\n", "there are 1 examples"),
        ("prompts: [a]\nfew_shot: {examples: [{prompt: a, response: b}], template: x}\n", "must hold {prompt} and {response}"),
        ("prompts: [a]\nform: caht\n", "'chat'"),
        ("prompts: [a]\nbackend: {kind: endpoint, url: nowhere, model: m}\n", "give an address"),
        ("prompts: [a]\nname: two\n", "stands twice"),
        ("prompts: [a]\nseed: true\n", "should be a number"),
    ],
)
def test_more_bad_suites(tmp_path: Path, plugins: PluginHost, text: str, part: str) -> None:
    """Each mistake is one clear ConfigError."""
    with pytest.raises(ConfigError) as caught:
        suite_of(tmp_path, plugins, text)
    assert part in str(caught.value)


def test_what_cannot_run_here_is_no_fault_of_the_suite(tmp_path: Path, plugins: PluginHost) -> None:
    """A suite that is right, and cannot run on this machine, is a MachineError with the fix."""
    with pytest.raises(MachineError, match=r'backend .vllm. cannot run here.*pip install "dpoframe\[vllm\]"'):
        suite_of(tmp_path, plugins, "prompts: [a]\nbackend: vllm\n")


@pytest.mark.parametrize(
    ("error", "said"),
    [(RuntimeError("no\n  driver"), "RuntimeError: no driver"), (SystemExit(0), "SystemExit: 0"), (SystemExit(), "SystemExit")],
    ids=repr,
)
def test_a_probe_that_raises_is_a_refusal(
    tmp_path: Path, plugins: PluginHost, monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str
) -> None:
    """An evaluator whose probe raises, or would end the program as if all were well, cannot run here: it is named, with why."""

    def probe(self: Any) -> None:
        raise error

    evaluator = suite_of(tmp_path, plugins, "prompts: [a]\n").evaluators[0]
    monkeypatch.setattr(type(evaluator), "probe", probe)
    with pytest.raises(MachineError) as caught:
        suite_of(tmp_path, plugins, "prompts: [a]\n")
    assert str(caught.value) == f"The evaluator 'finished' cannot run here: its probe raised {said}. Mend it, or leave it out."


def test_a_probe_that_hangs_is_a_refusal(tmp_path: Path, plugins: PluginHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluator that never says whether it can run here does not keep the command: it is named."""
    evaluator = suite_of(tmp_path, plugins, "prompts: [a]\n").evaluators[0]
    monkeypatch.setattr(type(evaluator), "probe", lambda self: time.sleep(1e6))
    monkeypatch.setattr("dpoframe.harness.suites.needs.SECONDS", 0.2)
    with pytest.raises(MachineError, match=r"'finished' cannot run here: it did not say in 0.2 s whether it can"):
        suite_of(tmp_path, plugins, "prompts: [a]\n")


def test_limited(suite_file: Path, plugins: PluginHost) -> None:
    """A suite cut to two prompts asks the first two alone, and is another suite by its digest."""
    suite = load_suite(suite_file, plugins)
    cut = suite.limited(2)
    assert [request.id for request in cut.requests()] == ["p0#0", "p0#1", "p1#0", "p1#1"]
    assert cut.requests() == suite.requests()[:4]
    assert cut.digest() != suite.digest()


def test_needs(suite_file: Path, plugins: PluginHost) -> None:
    """Endpoints and keys are named among what a suite needs; a suite of the core's own counting evaluators needs nothing."""
    assert needs(read_suite(suite_file, plugins)) == []
    changes = ["backend.kind=endpoint", "backend.url=http://localhost:9/v1", "backend.model=m"]
    assert needs(read_suite(suite_file, plugins, changes)) == ["backend endpoint at http://localhost:9/v1"]
    judge = "evaluators.0={name: win_rate, judge: {url: 'http://localhost:8/v1', model: m, api_key_env: JUDGE}}"
    found = " ".join(needs(read_suite(suite_file, plugins, [judge])))
    assert "the endpoint http://localhost:8/v1" in found
    assert "a key in $JUDGE" in found
    assert "another answer to each prompt" in found
