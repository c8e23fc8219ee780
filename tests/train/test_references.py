"""The kinds of reference."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from dpoframe import CheckpointError, ConfigError, Example, MachineError, hookimpl
from dpoframe.testing.toy import ToyModality
from dpoframe.train.cache import ScoreStore, store_digest
from dpoframe.train.precomputing import precompute_reference
from dpoframe.train.reference import AdapterReference, MovingReference, copy_of


def stored(folder: Path) -> dict[str, float]:
    """All scores under a cache folder, by name."""
    tables = [pq.read_table(file) for file in sorted(folder.rglob("*.parquet"))]
    return {
        key: value for table in tables for key, value in zip(*(table[name].to_pylist() for name in ("key", "value")), strict=True)
    }


@pytest.mark.parametrize("kind", ["cached", "adapter"])
def test_kinds_that_hold_no_second_model_agree_with_the_copy(kind: str, run: Any, look: Any) -> None:
    """Stored scores, and the adapter switched off, train as a copy of the model does."""
    copied = run("copy", "modality.adapter=true", "data.validation=0.25")
    other = run("other", "modality.adapter=true", "data.validation=0.25", reference={"kind": kind})
    for stage in (None, "validation"):
        for one, two in zip(look.rows(copied, stage), look.rows(other, stage), strict=True):
            assert one == pytest.approx(two, rel=1e-9, abs=1e-11)


def test_a_copy_shares_what_is_frozen() -> None:
    """The copy holds the policy's frozen parameters themselves, own trained ones, and takes no gradient."""
    policy = ToyModality(adapter=True).build()
    copied = copy_of(policy)
    shared = {name for name, value in copied.named_parameters() if value is policy.get_parameter(name)}
    assert shared == {"embedding.weight", "head.weight", "head.bias"}
    assert not any(value.requires_grad for value in copied.parameters())
    assert policy.adapter.weight.requires_grad


def test_the_moving_reference_follows_by_its_decay() -> None:
    """R = decay r + (1 - decay) p for trained parameters."""
    policy = ToyModality().build()
    before = {name: value.clone() for name, value in policy.named_parameters()}
    moving = MovingReference(copy_of(policy), policy, decay=0.75)
    with torch.no_grad():
        for value in policy.parameters():
            value.add_(1.0)
    moving.after_step(policy)
    for name, value in moving.model.named_parameters():
        torch.testing.assert_close(value, 0.75 * before[name] + 0.25 * policy.get_parameter(name).detach())


def test_the_adapter_reference_has_no_dropout_and_gives_modes_back() -> None:
    """Scores are those of evaluation mode; each module is in its old mode afterwards."""
    modality = ToyModality(adapter=True, dropout=0.5)
    policy = modality.build().train()
    policy.head.eval()
    batch = modality.collate([Example("say", "aeiou", 0, "a"), Example("say", "bcd", 0, "a")])
    scores = AdapterReference().score(modality, policy, batch, [])
    modes = {name: part.training for name, part in policy.named_modules()}
    with torch.no_grad():
        torch.testing.assert_close(scores.value, modality.score(policy.eval(), batch).value)
    assert modes == {"": True, "embedding": True, "head": False, "dropout": True, "adapter": True}


def test_cached_scores_are_computed_once_for_all_run_folders(run: Any, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run, with another loss setting and folder, computes nothing; more pairs compute only what is missing."""
    run("first", "data.limit=12", reference={"kind": "cached"})
    first = stored(own_cache)
    assert len(first) == 2 * 12
    run("second", "data.limit=12", "loss.beta=0.7", "trainer.lr=0.5", reference={"kind": "cached"})
    assert stored(own_cache) == first
    assert len(list(own_cache.rglob("*.parquet"))) == 1
    run("third", reference={"kind": "cached"})
    assert len(stored(own_cache)) == 2 * 20
    assert len(list(own_cache.rglob("*.parquet"))) == 2


def test_the_digest_covers_what_makes_a_score_and_nothing_else() -> None:
    """Weights, fingerprint, details and precision change it; the same model again does not."""
    modality = ToyModality()
    model = modality.build()
    same = store_digest(modality, modality.build(), [], "32-true")
    assert store_digest(modality, model, [], "32-true") == same
    other = nn.ModuleList([model])[0]
    others = {
        store_digest(modality, ToyModality(init_seed=1).build(), [], "32-true"),
        store_digest(ToyModality(dropout=0.5), model, [], "32-true"),
        store_digest(modality, other, ["entropy"], "32-true"),
        store_digest(modality, model, [], "bf16-mixed"),
    }
    assert len(others | {same}) == 5


def test_scores_can_be_precomputed(make_recipe: Any, host: Any, run: Any, own_cache: Path) -> None:
    """`dpoframe data reference` leaves what training then finds, validation pairs and mismatched examples included."""
    sections = {"loss": {"name": "kto"}, "reference": {"kind": "cached"}}
    report = precompute_reference(make_recipe("data.validation=0.25", **sections), host)
    assert report.computed == 20
    again = precompute_reference(make_recipe("data.validation=0.25", **sections), host)
    assert (again.computed, again.scores) == (0, report.scores)
    parts = len(list(own_cache.rglob("*.parquet")))
    run("run", "data.validation=0.25", **sections)
    assert len(list(own_cache.rglob("*.parquet"))) == parts


def test_no_reference_is_refused_where_the_loss_reads_one(run: Any) -> None:
    """`none` goes with reference-free losses alone."""
    assert run("free", loss={"name": "simpo"}, reference={"kind": "none"}).status == "finished"
    with pytest.raises(ConfigError, match="none"):
        run("bound", reference={"kind": "none"})


class Untrained:
    """A plugin whose reference has other weights."""

    @hookimpl
    def dpoframe_reference(self, modality: Any, policy: nn.Module, config: Any) -> nn.Module:
        """A model of its own."""
        return ToyModality(init_seed=5).build()


def test_a_plugin_may_supply_the_reference(host: Any, run: Any, look: Any) -> None:
    """Its module is asked before the core's copy, and the first step's check says that the two differ."""
    host.register(Untrained(), "untrained")
    with pytest.warns(RuntimeWarning, match="policy and reference should be equal"):
        result = run("run", "plugins=[toy, parts, untrained]")
    assert look.rows(result)[0]["rewards/margins"] != 0


def test_a_damaged_store_is_named(run: Any, own_cache: Path) -> None:
    """A part of the cache that is cut off is named with what to do; nothing is trained with scores that are not whole."""
    run("first", reference={"kind": "cached"})
    part = next(own_cache.rglob("part-*.parquet"))
    part.write_bytes(part.read_bytes()[:40])
    with pytest.raises(CheckpointError, match=r"part-.*damaged.*Remove the file"):
        run("second", reference={"kind": "cached"})


SCORED = {f"{number:032x}": {"value": -1.5 - number, "length": 3} for number in range(50)}


def flipped(data: bytes) -> bytes:
    """One bit of the first page, behind its header, is another."""
    return data[:200] + bytes([data[200] ^ 1]) + data[201:]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: b"", flipped, lambda data: data[:-30] + bytes(22) + data[-8:]]
)
def test_a_damaged_part_is_named(damage: Any, tmp_path: Path) -> None:
    """Cut short, empty, with a flipped bit among the scores, with a footer that is none: the file stands in the message."""
    store = ScoreStore(tmp_path / "scores")
    store.append(SCORED)
    (part,) = store.folder.iterdir()
    assert store.read().lookup([f"{3:032x}"]).value.tolist() == [-4.5]
    part.write_bytes(damage(part.read_bytes()))
    with pytest.raises(CheckpointError, match=rf"{part.name} are damaged .*Remove the file"):
        store.read()


def test_a_part_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Its name is no digest; where it is damaged it is named all the same."""
    store = ScoreStore(tmp_path)
    store.append(SCORED)
    (part,) = tmp_path.iterdir()
    old = part.rename(tmp_path / f"part-{7:032x}.parquet")
    assert not store.read().missing(list(SCORED))
    old.write_bytes(old.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=rf"{old.name} are damaged .*Remove the file"):
        store.read()


def test_a_part_of_something_else_is_named(tmp_path: Path) -> None:
    """A table without the columns of scores is no part."""
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "part-other.parquet")
    with pytest.raises(CheckpointError, match=r"part-other\.parquet are damaged \(it has no column length, value\)"):
        ScoreStore(tmp_path).read()


def test_scores_are_on_the_disk_before_they_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part is flushed whole before it gets its name, and the folder after it."""
    flushed: list[tuple[str, int]] = []
    plain = os.fsync

    def note(number: int) -> None:
        place = Path(f"/proc/self/fd/{number}").readlink()
        flushed.append((place.name, place.stat().st_size if place.is_file() else len(list(place.glob("part-*")))))
        plain(number)

    monkeypatch.setattr(os, "fsync", note)
    ScoreStore(tmp_path / "scores").append(SCORED)
    (part,) = (tmp_path / "scores").iterdir()
    before, after = [one for one in flushed if one[0] != tmp_path.name]
    assert before == (f".{part.name}.{os.getpid()}.aside", part.stat().st_size)
    assert after == ("scores", 1)


def test_parts_that_were_given_up_are_removed(tmp_path: Path) -> None:
    """What lies aside for long goes; what another process may be writing, and every part, stays."""
    store = ScoreStore(tmp_path)
    store.append(SCORED)
    (part,) = tmp_path.iterdir()
    for name, age in (("part-a.tmp", 9e4), (".part-b.parquet.7.aside", 9e4), (".part-c.parquet.7.aside", 60)):
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    os.utime(part, (0, 0))
    store.read()
    assert {file.name for file in tmp_path.iterdir()} == {part.name, ".part-c.parquet.7.aside"}


def test_a_refused_write_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full while a part is written: the cause and the way out are told, and nothing is left aside."""

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match=r"cannot be written to .*No space left on device\. Set DPOFRAME_CACHE"):
        ScoreStore(tmp_path).append(SCORED)
    assert not list(tmp_path.iterdir())


def test_a_store_that_cannot_be_is_one_message(run: Any, tmp_path: Path) -> None:
    """A cache folder under a file ends with how to choose another."""
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="DPOFRAME_CACHE"):
        run("closed", reference={"kind": "cached", "folder": str(tmp_path / "file" / "cache")})
