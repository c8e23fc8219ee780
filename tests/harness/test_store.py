"""The store: what it keeps, what it refuses, and what a broken one does."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dpoframe import Asset, Evaluator, EvaluatorSpec, Media, Request, Sample, Scale
from dpoframe.errors import ConfigError
from dpoframe.harness import EvalFolder, Subject, load_suite, run_suite
from dpoframe.harness.storage.keys import evaluator_key, sample_key
from dpoframe.harness.storage.store import claimed, file_of, opened, prepare
from dpoframe.harness.suites.suite import Suite
from dpoframe.plugins import PluginHost
from dpoframe.testing.toy import ToyModality

FILES = ("manifest.json", "results.json", "samples.jsonl", "pairs.jsonl", "scores.jsonl", "samples.parquet")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


def contents(folder: Path) -> dict[str, bytes]:
    """Every exported file."""
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture
def suite(suite_file: Path, plugins: PluginHost) -> Suite:
    """The small suite."""
    return load_suite(suite_file, plugins)


class Asked(ToyModality):
    """Remembers what it was asked."""

    requests: ClassVar[list[str]] = []

    def generate(self, model: Any, requests: Sequence[Request]) -> Iterator[Sample]:
        """As the toy."""
        self.requests.extend(one.id for one in requests)
        yield from super().generate(model, requests)


@pytest.fixture
def asked() -> Subject:
    """A toy that remembers."""
    Asked.requests.clear()
    modality = Asked()
    return Subject("toy", modality, modality.build())


@dataclass(frozen=True)
class Counted(Evaluator):
    """Counts the samples it reads."""

    power: int = 1
    read: ClassVar[list[str]] = []
    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec("counted", "1", "response", {"value": Scale()}, "value")

    def score(self, sample: Sample) -> Mapping[str, float]:
        """Characters to a power."""
        self.read.append(sample.id)
        return {"value": float(len(str(sample.response)) ** self.power)}


def test_answers_and_verdicts_are_kept(suite: Suite, asked: Subject, tmp_path: Path) -> None:
    """Run again, nothing is asked, nothing is read; the exports come out of the store in the same bytes, even when removed."""
    suite = replace(suite, evaluators=(*suite.evaluators, Counted()))
    run_suite(asked, suite, tmp_path / "out")
    before = contents(tmp_path / "out")
    assert len(Asked.requests) == 10
    Counted.read.clear()
    for name in FILES:
        (tmp_path / "out" / name).unlink()
    run_suite(asked, suite, tmp_path / "out")
    assert (len(Asked.requests), Counted.read) == (10, [])
    assert contents(tmp_path / "out") == before


def test_a_changed_evaluator_alone_reads_again(suite: Suite, asked: Subject, tmp_path: Path) -> None:
    """A new argument has one evaluator read the stored answers again: no other evaluator reads, and the model is not asked."""

    @dataclass(frozen=True)
    class Other(Counted):
        read: ClassVar[list[str]] = []
        spec: ClassVar[EvaluatorSpec] = replace(Counted.spec, id="other")

    run_suite(asked, replace(suite, evaluators=(Counted(), Other())), tmp_path / "out")
    Counted.read.clear(), Other.read.clear()
    result = run_suite(asked, replace(suite, evaluators=(Counted(2), Other())), tmp_path / "out")
    assert (len(Counted.read), Other.read, len(Asked.requests)) == (10, [], 10)
    lengths = [len(row.response) for row in EvalFolder(tmp_path / "out").samples()]
    assert result.metrics["counted"].interval.value == pytest.approx(sum(n**2 for n in lengths) / 10)


def test_an_evaluator_more_leaves_the_others_alone(suite: Suite, asked: Subject, tmp_path: Path) -> None:
    """An evaluator that asks for log-probabilities adds them for itself: what the others saw, and said, stays."""
    run_suite(asked, replace(suite, evaluators=(Counted(),)), tmp_path / "out")
    Counted.read.clear()
    result = run_suite(asked, replace(suite, evaluators=(Counted(), *suite.evaluators)), tmp_path / "out")
    assert Counted.read == []
    assert "base_logp" in result.metrics
    assert "base_logp" in EvalFolder(tmp_path / "out").samples()[0].detail


@pytest.mark.parametrize("change", ["seed", "settings", "prompt", "model", "seen"])
def test_every_part_of_a_sample_is_in_its_key(change: str) -> None:
    """Another seed, setting, prompt, tokenisation or model is another key; another id of the same request is not."""
    request = Request("p#0", "say a", 1, {"temperature": 1.0})
    given = {"model": "m", "request": request, "prompt": "p", "seen": "s"}
    first = sample_key(**given)  # type: ignore[arg-type]
    assert sample_key(**{**given, "request": replace(request, id="q#0")}) == first  # type: ignore[arg-type]
    others = {
        "seed": {"request": replace(request, seed=2)},
        "settings": {"request": replace(request, settings={"temperature": 0.5})},
        "prompt": {"prompt": "q"},
        "model": {"model": "n"},
        "seen": {"seen": "t"},
    }
    assert sample_key(**{**given, **others[change]}) != first  # type: ignore[arg-type]


def test_every_part_of_an_evaluator_is_in_its_key() -> None:
    """Another argument, version or asset is another key; the same evaluator made twice has one."""

    def made(**changes: Any) -> Evaluator:
        @dataclass(frozen=True)
        class One(Counted):
            spec: ClassVar[EvaluatorSpec] = replace(Counted.spec, **changes)

        return One()

    keys = [made(), made(version="2"), made(assets=(Asset("a", "1", ""),)), made(assets=(Asset("a", "2", ""),))]
    assert len({evaluator_key(one) for one in keys}) == 4
    assert evaluator_key(Counted()) == evaluator_key(Counted())
    assert evaluator_key(Counted(2)) != evaluator_key(Counted())


@pytest.mark.parametrize("attribute", ["config", "peft_config"])
def test_a_models_configuration_is_in_its_digest(attribute: str) -> None:
    """What stands in no weight, a rotary base or the scale of an adapter, tells two models apart; where they lie does not."""

    class Config:
        def __init__(self, **values: Any) -> None:
            self.values = values

        def to_dict(self) -> dict[str, Any]:
            return self.values

    def digest(**values: Any) -> str:
        modality = ToyModality()
        model = modality.build()
        config = Config(**values)
        setattr(model, attribute, {"default": config} if attribute == "peft_config" else config)
        return Subject("toy", modality, model).digest

    first = digest(rope_theta=10000.0, targets={"q", "v"}, _name_or_path="here", base_model_name_or_path="here")
    assert digest(targets={"v", "q"}, rope_theta=10000.0, _name_or_path="there", base_model_name_or_path="there") == first
    assert digest(rope_theta=500000.0, targets={"q", "v"}) != first


def damaged(folder: Path, how: str) -> None:
    """Breaks the store of an evaluation in one of the ways in which files break."""
    file = file_of(folder, 0)
    size = file.stat().st_size
    if how == "truncated":
        with file.open("r+b") as stream:
            stream.truncate(size // 2)
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "text":
        file.write_text("this is no data base, it is a text that lies in its place" * 100)
    elif how == "foreign":
        file.unlink()
        with contextmanager(_connection)(file) as database:
            database.executescript("CREATE TABLE samples (key TEXT, content TEXT); INSERT INTO samples VALUES ('a', 'b');")
    elif how == "newer":
        with contextmanager(_connection)(file) as database:
            database.executescript("PRAGMA user_version = 99")


def _connection(file: Path) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(file)
    yield database
    database.commit()
    database.close()


@pytest.mark.parametrize("how", ["truncated", "text", "foreign", "newer"])
def test_a_broken_store_is_set_aside(how: str, suite: Suite, asked: Subject, tmp_path: Path) -> None:
    """A store that is cut short, or none of ours, is kept under another name and named in a warning; all is made again."""
    run_suite(asked, suite, tmp_path / "out")
    before = contents(tmp_path / "out")
    damaged(tmp_path / "out", how)
    with pytest.warns(RuntimeWarning, match=r"rank-0\.sqlite cannot be used .* set aside as rank-0\.sqlite\.broken-1"):
        run_suite(asked, suite, tmp_path / "out")
    assert len(Asked.requests) == 20
    assert contents(tmp_path / "out") == before
    assert (tmp_path / "out" / "store" / "rank-0.sqlite.broken-1").is_file()


def test_an_empty_store_is_a_new_one(suite: Suite, asked: Subject, tmp_path: Path) -> None:
    """A file of no bytes, as a kill can leave, is filled without a word."""
    run_suite(asked, suite, tmp_path / "out")
    before = contents(tmp_path / "out")
    damaged(tmp_path / "out", "empty")
    run_suite(asked, suite, tmp_path / "out")
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("table", ["samples", "logps", "scores"])
def test_a_changed_entry_is_made_again(table: str, suite: Suite, asked: Subject, tmp_path: Path) -> None:
    """An entry whose content is not what was written, by a flipped bit or by hand, is never used."""
    run_suite(asked, suite, tmp_path / "out")
    before = contents(tmp_path / "out")
    with contextmanager(_connection)(file_of(tmp_path / "out", 0)) as database:
        database.execute(f"UPDATE {table} SET content = replace(content, '1', '7')")
    with pytest.warns(RuntimeWarning, match="are damaged; they are made again"):
        run_suite(asked, suite, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_a_store_from_another_run_is_not_believed(suite: Suite, asked: Subject, other: Subject, tmp_path: Path) -> None:
    """Another model's store in this model's place changes nothing: its answers lie under other keys."""
    run_suite(asked, suite, tmp_path / "mine")
    before = contents(tmp_path / "mine")
    run_suite(other, suite, tmp_path / "theirs")
    shutil.copy(file_of(tmp_path / "theirs", 0), file_of(tmp_path / "mine", 0))
    run_suite(asked, suite, tmp_path / "mine")
    assert contents(tmp_path / "mine") == before
    assert len(Asked.requests) == 20


def test_one_evaluation_at_a_time(suite: Suite, asked: Subject, tmp_path: Path) -> None:
    """A second evaluation into the same folder is refused while the first runs, and free to go afterwards."""
    with claimed(tmp_path / "out"), pytest.raises(ConfigError, match="Another process is evaluating into"):
        run_suite(asked, suite, tmp_path / "out")
    run_suite(asked, suite, tmp_path / "out")


def test_a_folder_that_is_a_file(suite: Suite, asked: Subject, tmp_path: Path) -> None:
    """Where no folder can be made there is one clear error."""
    from dpoframe.errors import MachineError

    (tmp_path / "out").write_text("")
    with pytest.raises(MachineError, match="cannot be made"):
        run_suite(asked, suite, tmp_path / "out")


def test_a_full_disk_is_told(suite: Suite, asked: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the store cannot grow there is one clear error; the run goes on once there is room."""
    from dpoframe.errors import MachineError
    from dpoframe.harness.storage import store

    plain = store._connected

    def full(file: Path) -> sqlite3.Connection:
        database = plain(file)
        database.execute("PRAGMA max_page_count = 1")  # SQLite takes the pages that are there for the least
        return database

    long = replace(suite, prompts=tuple(replace(one, content=one.content * 2000) for one in suite.prompts))  # type: ignore[operator]
    with monkeypatch.context() as patched:
        patched.setattr(store, "_connected", full)
        with pytest.raises(MachineError, match=r"cannot be written .*full.* Make room"):
            run_suite(asked, long, tmp_path / "out")
    assert not (tmp_path / "out" / "results.json").exists()
    assert run_suite(asked, long, tmp_path / "out").complete


def test_files_of_all_processes_count(tmp_path: Path) -> None:
    """What any process of an earlier run has written is taken in, also where this run has fewer processes."""
    with opened(tmp_path_with_store(tmp_path)) as first:
        first.put("samples", {"a": {"response": "x"}})
        with opened(tmp_path, 1) as second:
            assert second.known("samples", ["a", "b"]) == {"a"}
            second.put("samples", {"b": {"response": "y"}, "a": {"response": "never"}})
        assert first.known("samples", ["a", "b"]) == {"a"}
    prepare(tmp_path)
    with opened(tmp_path) as again:
        assert again.contents("samples", ["a", "b"]) == {"a": {"response": "x"}, "b": {"response": "y"}}


def tmp_path_with_store(folder: Path) -> Path:
    """A folder that an evaluation has claimed once."""
    with claimed(folder):
        prepare(folder)
    return folder


class Painting(ToyModality):
    """Answers with pictures."""

    def generate(self, model: Any, requests: Sequence[Request]) -> Iterator[Sample]:
        """One picture a request, the same for the same prompt."""
        for one in requests:
            yield Sample(one.id, one.prompt, Media("image", data=PNG + str(one.prompt).encode()))


@dataclass(frozen=True)
class Looked(Evaluator):
    """Bytes of a picture."""

    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec("looked", "1", "response", {"bytes": Scale()}, "bytes")

    def score(self, sample: Sample) -> Mapping[str, float]:
        """How large it is."""
        assert isinstance(sample.response, Media)
        return {"bytes": float(len(Path(str(sample.response.path)).read_bytes()))}


def test_media_lie_by_content(suite: Suite, tmp_path: Path) -> None:
    """Pictures are files named by their digest, one for equal ones, and are read back as media; a lost one is made again."""
    modality = Painting()
    subject = Subject("painter", modality, modality.build())
    suite = replace(suite, evaluators=(Looked(),))
    result = run_suite(subject, suite, tmp_path / "out")
    blobs = sorted((tmp_path / "out" / "blobs").iterdir())
    assert (len(blobs), {file.suffix for file in blobs}) == (5, {".png"})
    assert result.metrics["looked"].interval.value == len(PNG) + 5
    rows = EvalFolder(tmp_path / "out").samples()
    assert isinstance(rows[0].response, Media)
    assert rows[0].response.digest() == blobs[0].stem or rows[0].response.digest() in {file.stem for file in blobs}
    before = contents(tmp_path / "out")
    blobs[0].unlink()
    with pytest.warns(RuntimeWarning, match="2 entries .* are damaged"):
        run_suite(subject, suite, tmp_path / "out")
    assert contents(tmp_path / "out") == before
    assert blobs[0].is_file()


def test_a_model_cannot_name_files(suite: Suite, tmp_path: Path) -> None:
    """A row that says it is a picture elsewhere on the disk stays the plain value that it is."""
    blobs = EvalFolder(tmp_path).blobs
    for path in ("/etc/passwd", "blobs/../../secret", "blobs/short.png"):
        given = [{"role": "user", "content": {"media": "image", "path": path}}]
        assert blobs.restored(given) == given


def test_a_limit_is_never_taken_for_the_whole(suite: Suite, asked: Subject, tmp_path: Path) -> None:
    """A limited run has another digest, is not complete, says its limit, and leaves its answers for the whole run."""
    part = run_suite(asked, suite, tmp_path / "out", limit=2)
    about = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (part.limit, part.complete, about["limit"], about["prompts"], about["pairs"]) == (2, False, 2, 2, 2)
    assert json.loads((tmp_path / "out" / "results.json").read_text())["complete"] is False
    whole = run_suite(asked, suite, tmp_path / "out")
    assert (whole.limit, whole.complete, len(Asked.requests)) == (None, True, 10)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["suite_digest"] != about["suite_digest"]
    assert run_suite(asked, suite, tmp_path / "more", limit=100).limit is None
