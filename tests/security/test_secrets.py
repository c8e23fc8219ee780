"""Secrets planted in environment, recipe, command line, address and a plugin's errors are in no file and on no screen."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from dpoframe.config.secrets import MASK, masked, scrubbed

ENVIRONMENT, RECIPE, ARGUMENT, ADDRESS, QUERY = (
    "environment-1f3a/77", "recipe-secret-90c2", "argument-secret-41d8", "address-secret-c0de", "query-secret-5577"
)  # fmt: skip
TOKEN = "hf_" + "Zq7" * 12
NUMBER, HEADER, NESTED, SUITE = 86753091234, "header-secret-6a6a", "nested-secret-7b7b", "suite-secret-8c8c"
PLANTED = (ENVIRONMENT, RECIPE, ARGUMENT, ADDRESS, QUERY, TOKEN, str(NUMBER), HEADER, NESTED, SUITE)

LEAKY = """
import os
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dpoframe import Evaluator, EvaluatorSpec, Reporter, ReporterSession, Scale, hookimpl
from dpoframe.testing.toy import ToyModality


def everything():
    return f"{os.environ['PLANTED_TOKEN']} and https://me:address-secret-c0de@host/?api_key=query-secret-5577"


@dataclass(frozen=True)
class Session(ReporterSession):
    key: str
    def log(self, row):
        raise RuntimeError(f"refused: key {self.key}, {everything()}")


@dataclass(frozen=True)
class Leaky(Reporter):
    api_key: str = ""
    password: str = ""
    access_key: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    credentials: dict[str, str] = field(default_factory=dict)
    def start(self, run):
        return Session(self.api_key + self.password)


@dataclass(frozen=True)
class Broken(Evaluator):
    password: str = ""
    credentials: dict[str, str] = field(default_factory=dict)
    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec("broken", "1", "response", {"value": Scale(0.0, 1.0, "share")}, "value")
    def score(self, sample):
        raise ValueError(everything())


@dataclass(frozen=True)
class Tokened(ToyModality):
    hub_token: str = ""
    mirror: str = ""


@hookimpl
def dpoframe_pair_metrics(scores, losses, stage, step):
    if os.environ.get("EXPLODE"):
        raise OSError(everything())
"""


@pytest.fixture
def planted(ground: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of a training in which every place that may hold a secret holds one."""
    monkeypatch.setenv("PLANTED_TOKEN", ENVIRONMENT)
    ground.write("leaky.py", LEAKY)
    broken = {"name": "./leaky.py:Broken", "password": SUITE, "credentials": {"user": "me", "value": NESTED}}
    ground.suite(evaluators=["finished", broken], description=f"By {ENVIRONMENT}.")
    name = ground.recipe(
        modality={"name": "./leaky.py:Tokened", "hub_token": TOKEN, "mirror": f"https://me:{ADDRESS}@host/x"},
        description=f"From https://me:{ADDRESS}@host/x?access_token={QUERY} with {ENVIRONMENT}.",
        reporters=[
            {
                "name": "./leaky.py:Leaky",
                "api_key": RECIPE,
                "access_key": NUMBER,
                "headers": {"X-Api-Key": HEADER},
                "credentials": {"user": "me-too", "value": NESTED},
            }
        ],
        evaluate=["suite.yaml"],
    )
    rows = [json.loads(line) for line in (ground.home / "rows.jsonl").read_text().splitlines()]
    ground.write("rows.jsonl", [*rows, {"prompt": "p", "chosen": "x", "rejected": {"token": ENVIRONMENT}}])
    return ["train", name, "--out", "run", "--set", f"reporters.0.password={ARGUMENT}"]


def held(folder: Path, least: int = 13) -> dict[str, list[str]]:
    """The planted secrets that the files below a folder hold, by file; at least so many files are there."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    found = {file.name: [one for one in PLANTED if one.encode() in file.read_bytes()] for file in files}
    assert len(files) >= least
    return {name: secrets for name, secrets in found.items() if secrets}


def test_no_artefact_and_no_message_holds_a_secret(planted: list[str], ground: Any, ended: Any) -> None:
    """A run whose reporter and evaluator raise with secrets in their errors: its folder, its report and its talk are clean."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        found = ended(*planted)
    assert found.code == 0
    assert [one for one in PLANTED if one in found.said] == []
    assert f"refused: key {MASK}" in found.said
    assert held(ground.home / "run") == {}
    recipe = (ground.home / "run" / "recipe.yaml").read_text()
    assert f"api_key: '{MASK}'" in recipe
    assert f"https://{MASK}@host/x?access_token={MASK} with {MASK}." in recipe
    assert f"https://{MASK}@host" in (ground.home / "run" / "eval" / "small" / "scores.jsonl").read_text()
    assert MASK in (ground.home / "run" / "data" / "quarantine.jsonl").read_text()


def test_a_secret_set_for_one_evaluation_is_not_kept(ground: Any, ended: Any, planted: list[str]) -> None:
    """What `--set` gives an evaluator as its password is in no file of the evaluation, nor in what `config` shows of a recipe."""
    assert ended("eval", ground.model(), "suite.yaml", "--out", "found", "--set", f"evaluators.1.password={ARGUMENT}").code == 0
    assert "evaluators.1.password=***" in (ground.home / "found" / "small" / "manifest.json").read_text()
    assert held(ground.home / "found", least=5) == {}
    assert [one for one in PLANTED if one in ended("config", "recipe.yaml").said] == []


@pytest.mark.parametrize("debug", [(), ("--debug",), ("--json",)])
def test_an_exploding_hook_tells_no_secret(
    debug: tuple[str, ...], planted: list[str], ground: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook that raises in mid-run is named with its plugin; neither message, nor traceback, nor document holds what it tells."""
    from dpoframe.cli import main

    monkeypatch.setenv("EXPLODE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main([*planted, *debug]) == 2
    said = "".join(capsys.readouterr())
    assert "The hook dpoframe_pair_metrics of the plugin 'leaky'" in said
    assert ("Traceback" in said) == (debug == ("--debug",))
    assert [one for one in PLANTED if one in said] == []
    assert all(not any(one.encode() in file.read_bytes() for one in PLANTED) for file in (ground.home / "run").rglob("*.*"))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("connect(password='hun ter2', x=3)", "connect(password=***, x=3)"),
        ("--set reporters.0.api_key=hunter2: is wrong", "--set reporters.0.api_key=*** is wrong"),
        ("give --set reporters.0.api_key=..., or", "give --set reporters.0.api_key=..., or"),
        ('{"api_key": "abc", "tokens": 3}', '{"api_key": ***, "tokens": 3}'),
        ("Authorization: Bearer abcdefghijk", "Authorization: Bearer ***"),
        ("https://u:p@h/x?a=1&access_token=zzz&b=2", "https://***@h/x?a=1&access_token=***&b=2"),
        (f"the token {TOKEN}.", "the token ***."),
        ("trainer.tokens_per_batch=8192, pad_token='<eos>'", "trainer.tokens_per_batch=8192, pad_token='<eos>'"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- after", "*** after"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "***"),
    ],
)
def test_forms_of_secrets(text: str, plain: str) -> None:
    """What looks like a secret in running text is masked; what only sounds like one is left."""
    assert scrubbed(text) == plain


def test_the_environment_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Values of variables that are called key, token or password, also as an address writes them; no places, no short words."""
    monkeypatch.setenv("MY_SERVICE_KEY", ENVIRONMENT)
    monkeypatch.setenv("OTHER_KEY_FILE", str(tmp_path))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "parallelism")
    monkeypatch.setenv("SHORT_TOKEN", "word")
    text = f"{ENVIRONMENT} {ENVIRONMENT.replace('/', '%2F')} {tmp_path} parallelism word"
    assert scrubbed(text) == masked(text) == f"*** *** {tmp_path} parallelism word"


def test_what_was_masked_is_remembered() -> None:
    """A value that its key gave away is masked in texts from then on."""
    assert masked({"headers": {"Authorization": "given-away-77"}, "n": [1]}) == {"headers": {"Authorization": MASK}, "n": [1]}
    assert scrubbed("refused: given-away-77") == "refused: ***"


def test_long_texts_are_searched_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that a stranger wrote to make the search slow is searched in seconds: no pattern looks back without bound."""
    import time

    started = time.process_time()
    for piece in ("a-", "eyJ", "?api_", "://", "password", "Bearer ", "-----BEGIN "):
        scrubbed(piece * (200_000 // len(piece)) + "://")
    assert time.process_time() - started < 20
