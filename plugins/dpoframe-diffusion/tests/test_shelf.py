"""Shards on disk: what was put is found, by this process and others, and nothing that is damaged is served."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
import time

import pytest
import torch
from dpoframe_diffusion.shelf import Shelf

from dpoframe import MachineError


def entry(number):
    """Tensors of several types and shapes."""
    return {
        "mean": torch.full((2, 3), float(number)),
        "half": torch.arange(4, dtype=torch.bfloat16) + number,
        "count": torch.tensor(number),
    }


def shards(folder):
    """The files of a shelf."""
    return sorted(folder.glob("shard-*.safetensors"))


def same(found, number):
    """Whether an entry is that of the number, to type and bit."""
    wanted = entry(number)
    return (
        found is not None
        and found.keys() == wanted.keys()
        and all(found[name].dtype == wanted[name].dtype and torch.equal(found[name], wanted[name]) for name in wanted)
    )


def test_what_was_put_is_found(tmp_path):
    """Tensors come back with type, shape and bits, to whoever opens the folder later; what is not there is None."""
    shelf = Shelf(tmp_path / "new" / "shelf")
    assert shelf.get("a") is None
    assert shelf.has(["a"]) == set()
    shelf.put({"a": entry(1), "b": entry(2)})
    for reader in (shelf, Shelf(shelf.folder)):
        assert reader.has(["a", "b", "c"]) == {"a", "b"}
        assert same(reader.get("a"), 1)
        assert same(reader.get("b"), 2)
        assert reader.get("c") is None


def test_nothing_is_kept_twice(tmp_path):
    """A name that is there is not written again, also where another one put it; nothing new writes nothing."""
    first, second = Shelf(tmp_path), Shelf(tmp_path)
    assert second.has(["a"]) == set()
    first.put({"a": entry(1)})
    second.put({"a": entry(1)})
    second.put({})
    assert len(shards(tmp_path)) == 1
    second.put({"a": entry(1), "b": entry(2)})
    assert len(shards(tmp_path)) == 2
    assert sum(file.stat().st_size for file in shards(tmp_path)) < 3 * shards(tmp_path)[0].stat().st_size
    assert same(first.get("b"), 2)


def _cut(file):
    file.write_bytes(file.read_bytes()[:-5])


def _empty(file):
    file.write_bytes(b"")


def _flip(file):
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


def _other(file):
    file.write_bytes(b"not a shard at all, but long enough for a header")


@pytest.mark.parametrize("damage", [_cut, _empty, _flip, _other])
def test_a_damaged_shard_is_made_again(tmp_path, damage, caplog):
    """A shard that is cut off, empty, changed by a bit or something else is removed with a word and can be made again."""
    Shelf(tmp_path).put({"a": entry(1)})
    (hurt,) = shards(tmp_path)
    Shelf(tmp_path).put({"b": entry(2)})
    damage(hurt)
    shelf = Shelf(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert shelf.get("a") is None
    assert hurt.name in caplog.text
    assert "made again" in caplog.text
    assert not hurt.exists()
    assert same(shelf.get("b"), 2)
    shelf.put({"a": entry(1)})
    assert same(shelf.get("a"), 1)


def test_another_copy_is_found_where_one_is_damaged(tmp_path):
    """Two processes may have written the same entry; where one shard is damaged the other one serves."""
    one, two = Shelf(tmp_path / "one"), Shelf(tmp_path / "two")
    one.put({"a": entry(1)})
    two.put({"a": entry(1)})
    for file in shards(two.folder):
        file.rename(one.folder / file.name)
    # The one that is looked at first.
    hurt = min(shards(one.folder))
    _flip(hurt)
    assert same(Shelf(one.folder).get("a"), 1)
    assert not hurt.exists()


def test_a_shard_that_cannot_be_opened_is_left_alone(tmp_path, caplog):
    """What fails for another reason than its content (a folder of that name) is told of and not removed."""
    (tmp_path / "shard-0.safetensors").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        assert Shelf(tmp_path).get("a") is None
    assert "shard-0" in caplog.text
    assert (tmp_path / "shard-0.safetensors").is_dir()


def test_a_shard_removed_while_in_use(tmp_path):
    """Who empties the cache under a running process costs it the work, not the run."""
    shelf = Shelf(tmp_path)
    shelf.put({"a": entry(1)})
    shelf._open.clear()
    for file in shards(tmp_path):
        file.unlink()
    assert shelf.get("a") is None
    shelf.put({"a": entry(1)})
    assert same(shelf.get("a"), 1)


def test_many_shards(tmp_path):
    """More shards than stay open are all read."""
    shelf = Shelf(tmp_path)
    for number in range(70):
        shelf.put({f"k{number}": entry(number)})
    reader = Shelf(tmp_path)
    assert all(same(reader.get(f"k{number}"), number) for number in range(70))
    assert len(reader._open) <= 64


def test_a_folder_that_cannot_be_made(tmp_path):
    """Where a file lies in the way the error names the folder and what to set."""
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match=r"file.*DPOFRAME_CACHE.*cache: false"):
        Shelf(tmp_path / "file" / "shelf").put({"a": entry(1)})


def test_a_full_disk(tmp_path):
    """A write that the system refuses half-way is a MachineError and leaves nothing behind."""
    shelf = Shelf(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    try:
        with pytest.raises(MachineError, match="Make room"):
            shelf.put({"a": {"mean": torch.zeros(2**18)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_left_overs_are_swept(tmp_path):
    """What a killed process left half-written goes after a day, and not while it may still be written."""
    old, young = tmp_path / ".shard-1.safetensors.aside", tmp_path / ".shard-2.safetensors.aside"
    for file in (old, young):
        file.write_bytes(b"half")
    day_ago = time.time() - 90000
    os.utime(old, (day_ago, day_ago))
    Shelf(tmp_path).put({"a": entry(1)})
    assert not old.exists()
    assert young.exists()


_WRITER = """
import sys, torch
from pathlib import Path
from dpoframe_diffusion.shelf import Shelf
shelf = Shelf(Path(sys.argv[1]))
for number in range(40):
    shelf.put({f"k{number}": {"value": torch.full((100,), float(number))}})
    found = shelf.get(f"k{number}")
    assert found is not None and bool((found["value"] == number).all())
"""


def test_processes_write_at_once(tmp_path):
    """Two processes that add the same entries at the same time both find them all, and so does a third."""
    running = [subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)]) for _ in range(2)]
    assert [process.wait(120) for process in running] == [0, 0]
    shelf = Shelf(tmp_path)
    for number in range(40):
        assert torch.equal(shelf.get(f"k{number}")["value"], torch.full((100,), float(number)))
    assert not list(tmp_path.glob(".*"))
