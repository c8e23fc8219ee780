"""Tasks of lm-evaluation-harness: against a module in its place here, and against itself where it is installed."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dpoframe.errors import ConfigError, MachineError
from dpoframe.harness import EvalFolder, Subject, compare, load_suite, run_suite
from dpoframe.harness.lm_eval.model import continuations, cut, written
from dpoframe.harness.suites.needs import needs
from dpoframe.harness.suites.suite_file import read_suite
from dpoframe.modality import Modality
from dpoframe.plugins import PluginHost
from dpoframe.types import Example

STORIES = (Path(__file__).parents[2] / ".." / "shared" / "data" / "lm" / "stories260K_hf").resolve()
INSTALLED = importlib.util.find_spec("lm_eval") is not None
# As much of lm_eval as is used: three documents with a choice each, and one figure that is no mean.
STUB = """
import math, random
import numpy, torch
from lm_eval.api.model import LM
from types import SimpleNamespace

DOCS = [("say a", ["ae", "bd"], 0), ("say b", ["bg", "oi"], 1), ("say c", ["aa", "ee"], 0), ("say d", ["ui", "kk"], 1)]
CALLS = []

def simple_evaluate(model, tasks, limit=None, random_seed=0, **settings):
    assert isinstance(model, LM)
    CALLS.append({"tasks": tasks, "limit": limit, **settings})
    random.seed(random_seed); numpy.random.seed(random_seed); torch.manual_seed(random_seed)
    if tasks == ["absent"]:
        raise KeyError("no task absent")
    rows = []
    for number, (question, choices, gold) in enumerate(DOCS[:limit]):
        asked = [SimpleNamespace(args=(question, choice)) for choice in choices]
        found = model.loglikelihood(asked)
        best = max(range(2), key=lambda place: found[place][0])
        rows.append({
            "doc_id": number, "target": gold, "arguments": [one.args for one in asked], "filtered_resps": found, "filter": "none",
            "metrics": ["acc", "ppl", "odd"], "acc": float(best == gold), "ppl": (found[gold][0], 2), "odd": "text",
        })
    acc = sum(row["acc"] for row in rows) / len(rows)
    ppl = math.exp(-sum(row["ppl"][0] for row in rows) / (2 * len(rows)))
    figures = {"acc,none": acc, "ppl,none": ppl, "odd,none": 1.0}
    return {
        "samples": {"mini": rows}, "results": {"mini": figures}, "versions": {"mini": 3.0},
        "higher_is_better": {"mini": {"acc": True, "ppl": False}},
    }
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module in lm_eval's place."""
    if INSTALLED:
        pytest.skip("lm_eval is installed, so nothing can stand in its place")
    home = tmp_path / "site"
    files = {
        "lm_eval/__init__.py": "from lm_eval.evaluator import simple_evaluate\n",
        "lm_eval/evaluator.py": STUB,
        "lm_eval/api/__init__.py": "",
        "lm_eval/api/model.py": "class LM:\n    pass\n",
        "lm_eval/api/registry.py": (
            "import math\n\n\ndef get_metric_aggregation(name):\n"
            "    return {'ppl': lambda items: math.exp(-sum(a for a, _ in items) / sum(b for _, b in items))}[name]\n"
        ),
        "lm_eval/tasks/__init__.py": "class TaskManager:\n    def __init__(self, include_path=None):\n        pass\n",
        "lm_eval-9.8.7.dist-info/METADATA": "Metadata-Version: 2.1\nName: lm_eval\nVersion: 9.8.7\n",
    }
    for name, content in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(content)
    monkeypatch.syspath_prepend(str(home))
    import sys

    before = set(sys.modules)
    import lm_eval.evaluator

    yield lm_eval.evaluator
    for name in set(sys.modules) - before:
        if name.split(".")[0] == "lm_eval":
            del sys.modules[name]


def test_without_it(plugins: PluginHost, monkeypatch: pytest.MonkeyPatch, subject: Subject, tmp_path: Path) -> None:
    """Where lm_eval is not installed the exact command is told, before weights are loaded and when it is run all the same."""
    monkeypatch.setattr("dpoframe.harness.lm_eval.suite.importlib.util.find_spec", lambda name: None)
    with pytest.raises(MachineError, match=r'pip install "dpoframe\[lm-eval\]"'):
        load_suite("lm_eval:arc_easy", plugins)
    suite = read_suite("lm_eval:arc_easy", plugins)
    assert suite.name == "lm_eval:arc_easy"
    assert any("dpoframe[lm-eval]" in one for one in needs(suite))
    with pytest.raises(MachineError, match=r"The suite 'lm_eval:arc_easy' needs the package 'lm_eval'"):
        run_suite(subject, suite, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("lm_eval: {tsak: a}\n", "Did you mean 'task'?"),
        ("lm_eval: {task: a, num_fewshot: -1}\n", "num_fewshot"),
        ("lm_eval: {task: a}\nevaluators: [finished]\n", "has no effect beside lm_eval"),
    ],
)
def test_keys_are_strict(tmp_path: Path, plugins: PluginHost, text: str, part: str) -> None:
    """A suite's section for lm_eval is read like every other; keys that it would not heed are faults."""
    (tmp_path / "task.yaml").write_text(f"name: x\nversion: 1\n{text}")
    with pytest.raises(ConfigError) as caught:
        read_suite(tmp_path / "task.yaml", plugins)
    assert part in str(caught.value)


def expected(subject: Subject, docs: Any) -> tuple[list[float], float]:
    """By scoring each choice alone: whether the likelier one is right, and the perplexity of the right ones, two units each."""
    right, total = [], 0.0
    for question, choices, gold in docs:
        found = []
        for choice in choices:
            batch = subject.modality.collate([Example(question, choice, 0, "x", finished=False)])
            found.append(float(subject.modality.score(subject.model, batch).value.detach()))
        right.append(float(max(range(2), key=found.__getitem__) == gold))
        total += found[gold]
    return right, math.exp(-total / (2 * len(docs)))


@pytest.mark.filterwarnings("ignore:The metric odd of mini is left out:RuntimeWarning")
def test_a_task_is_a_suite(stub: Any, plugins: PluginHost, subject: Subject, other: Subject, tmp_path: Path) -> None:
    """Documents become samples, metrics figures with intervals; a mean and a figure that is none are those of the documents."""
    suite = load_suite("lm_eval:mini", plugins)
    result = run_suite(subject, suite, tmp_path / "a")
    right, perplexity = expected(subject, stub.DOCS)
    assert result.metrics["acc"].interval.value == pytest.approx(sum(right) / 4)
    assert result.metrics["ppl"].interval.value == pytest.approx(perplexity, rel=1e-5)
    assert result.metrics["acc"].interval.n == 4
    assert result.complete
    written = json.loads((tmp_path / "a" / "results.json").read_text())
    assert (written["suite"], set(written["metrics"])) == ("lm_eval:mini", {"acc", "ppl", "ppl/part0", "ppl/part1"})
    about = EvalFolder(tmp_path / "a").document("manifest.json")
    assert (about["suite_version"], about["suite_digest"]) == ("3.0 lm_eval 9.8.7", suite.digest())
    assert about["evaluators"]["ppl"]["metrics"]["ppl"]["better"] == "lower"
    rows = EvalFolder(tmp_path / "a").samples()
    assert [row.id for row in rows] == [f"mini/{number}#0" for number in range(4)]
    assert (rows[0].prompt, rows[0].meta["metrics"]["acc"]) == ("say a", right[0])
    again = len(stub.CALLS)
    assert run_suite(subject, suite, tmp_path / "a").metrics["acc"].interval == result.metrics["acc"].interval
    assert len(stub.CALLS) == again, "what is there already was asked for again"
    run_suite(other, suite, tmp_path / "b")
    assert len(stub.CALLS) == again + 1
    difference = compare(tmp_path / "a", tmp_path / "b")["acc"].difference
    assert difference.value == pytest.approx((sum(expected(other, stub.DOCS)[0]) - sum(right)) / 4)


@pytest.mark.filterwarnings("ignore:The metric odd of mini is left out:RuntimeWarning")
def test_settings_reach_the_task(stub: Any, plugins: PluginHost, subject: Subject, tmp_path: Path) -> None:
    """Keys of the section arrive, the limit too; the process's random state and the model's mode are as they were."""
    changes = ["lm_eval.num_fewshot=2", "lm_eval.chat=true", "system=Be brief."]
    suite = load_suite("lm_eval:mini", plugins, changes)
    subject.model.train()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    result = run_suite(subject, suite, tmp_path / "out", limit=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert subject.model.training
    assert (result.metrics["acc"].interval.n, result.limit, result.complete) == (2, 2, False)
    call = stub.CALLS[-1]
    assert (call["tasks"], call["limit"], call["num_fewshot"]) == (["mini"], 2, 2)
    assert (call["apply_chat_template"], call["system_instruction"]) == (True, "Be brief.")
    assert suite.digest() != load_suite("lm_eval:mini", plugins).digest()


@pytest.mark.filterwarnings("ignore:The metric odd of mini is left out:RuntimeWarning")
def test_a_limit_is_told_everywhere(stub: Any, plugins: PluginHost, subject: Subject, tmp_path: Path) -> None:
    """Result, results.json and manifest.json say alike that a limit left documents out, also when nothing is asked again."""
    suite = load_suite("lm_eval:mini", plugins)
    for calls in (1, 1):
        result = run_suite(subject, suite, tmp_path / "out", limit=2)
        written, about = (EvalFolder(tmp_path / "out").document(name) for name in ("results.json", "manifest.json"))
        assert (result.complete, written["complete"]) == (False, False)
        assert (result.limit, about["limit"], about["prompts"]) == (2, 2, 2)
        assert written["suite_digest"] == about["suite_digest"] == suite.limited(2).digest()
        assert len(stub.CALLS) == calls
    assert run_suite(subject, suite, tmp_path / "out").complete
    own = load_suite("lm_eval:mini", plugins, ["lm_eval.limit=2"])
    for limit in (None, 3):  # what the suite itself asks for is whole
        result = run_suite(subject, own, tmp_path / "own", limit=limit)
        assert (result.complete, result.limit) == (True, None)
        assert EvalFolder(tmp_path / "own").document("results.json")["complete"] is True


@pytest.mark.usefixtures("stub")
def test_unknown_task(plugins: PluginHost, subject: Subject, tmp_path: Path) -> None:
    """What lm-evaluation-harness raises is one clear error that names the task."""
    with pytest.raises(ConfigError, match="cannot run 'absent': KeyError"):
        run_suite(subject, load_suite("lm_eval:absent", plugins), tmp_path / "out")


def test_continuations_have_no_end(subject: Subject) -> None:
    """A continuation's score is the log-probability of its own units alone, as the modality gives it for an unfinished answer."""
    (value,) = continuations(subject, [("say a", "ae")], 0)
    batch = subject.modality.collate([Example("say a", "ae", 0, "x", finished=False)])
    assert value == pytest.approx(float(subject.modality.score(subject.model, batch).value.detach()))


def test_generation_settings_are_translated() -> None:
    """Names of lm-evaluation-harness become ours; without sampling the temperature is 0; an unknown one is refused."""
    request = written(3, "ask", {"until": ["\n", ""], "max_gen_toks": 5, "do_sample": False, "temperature": 0.7}, 0)
    assert dict(request.settings) == {"stop": ["\n"], "max_new_tokens": 5, "do_sample": False, "temperature": 0.0}
    with pytest.raises(ConfigError, match="num_beams"):
        written(0, "ask", {"num_beams": 4}, 0)
    assert cut("a b\nc", ["\n", " "]) == "a"
    assert cut("abc", ["x"]) == "abc"


@dataclass(frozen=True)
class Causal:
    """A modality that has a tokenizer, as the modality of text has."""

    encoder: Any = None

    def for_evaluation(self) -> Causal:
        """Itself."""
        return self


TASK = """
task: mini_{kind}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{question}}}}"
metadata: {{version: 1.0}}
"""
CHOICE = 'doc_to_choice: "{{choices}}"\ndoc_to_target: gold\nmetric_list: [{metric: acc}, {metric: acc_norm}]\n'
ROLLING = 'doc_to_target: "{{question}}{{choices[gold]}}"\nmetric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]\n'
DOCUMENTS = [
    ("Once upon a time there was a", [" little girl", " xylophone of", " the the the"], 0),
    ("Lily wanted to", ["zzz", " play with her toys", " of and but"], 1),
    ("The dog was very", [" happy", " Wednesday", " because"], 1),
    ("Tom and Sue went to the", [" park", " are", " slowly"], 0),
]


@pytest.mark.skipif(not INSTALLED, reason="lm_eval is not installed: pip install 'dpoframe[lm-eval]'")
@pytest.mark.filterwarnings("ignore")  # whatever lm_eval and its many libraries warn of is theirs
@pytest.mark.parametrize(
    ("kind", "more", "scorers"),
    # By the modality a text that follows nothing has no leading space, which this tokenizer puts before a text alone.
    [("multiple_choice", CHOICE, ("auto", "modality")), ("loglikelihood_rolling", ROLLING, ("auto",))],
)
def test_figures_are_its_own(tmp_path: Path, kind: str, more: str, scorers: tuple[str, ...]) -> None:
    """Figures on a small Llama are those that lm-evaluation-harness gives of it without dpoframe."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    from dpoframe.plugins import host

    if not STORIES.is_dir():
        pytest.skip(f"the model {STORIES.name} is not beside this checkout")
    rows = [{"question": question, "choices": choices, "gold": gold} for question, choices, gold in DOCUMENTS]
    (tmp_path / "data.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = tmp_path / f"mini_{kind}.yaml"
    file.write_text(TASK.format(kind=kind, data=tmp_path / "data.json") + more)
    plain = simple_evaluate(model=HFLM(str(STORIES), dtype="float32", device="cpu"), tasks=[str(file)], bootstrap_iters=0)
    wanted = {name.removesuffix(",none"): value for name, value in plain["results"][f"mini_{kind}"].items()}
    modality = host().get("modality", "text")(model=str(STORIES))
    subject = Subject("stories", modality, modality.build())
    for scorer in scorers:
        suite = load_suite(f"lm_eval:{file}", overrides=[f"lm_eval.scorer={scorer}"])
        for name, metric in run_suite(subject, suite, tmp_path / scorer).metrics.items():
            if "/" not in name:
                assert metric.interval.value == pytest.approx(wanted[name], rel=1e-4), (scorer, name)


def test_transformers_models_are_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of transformers goes to lm-evaluation-harness's own class with the modality's tokenizer, in batches as told."""
    import sys
    from types import ModuleType

    from dpoframe.harness.lm_eval.keys import LmEvalKeys
    from dpoframe.harness.lm_eval.model import language_model

    given: dict[str, Any] = {}
    module = ModuleType("lm_eval.models.huggingface")
    module.HFLM = lambda **arguments: given.update(arguments) or "lm"  # type: ignore[attr-defined]
    for name in ("lm_eval", "lm_eval.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", module)
    modality: Modality = Causal(SimpleNamespace(tokenizer="the tokenizer"))  # type: ignore[assignment]
    model: Any = SimpleNamespace(config={})
    assert language_model(Subject("x", modality, model), LmEvalKeys("t", batch_size=3), 0) == "lm"
    assert (given["pretrained"], given["tokenizer"], given["batch_size"]) == (model, "the tokenizer", 3)
