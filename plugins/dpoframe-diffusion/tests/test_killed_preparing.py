"""A process that is killed while it encodes, at whatever instant, leaves nothing that a later one trips over or is misled by."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dpoframe_diffusion
import pytest
import torch
from dpoframe_diffusion import latents, modality, shelf
from dpoframe_diffusion.framing import FramingSection, frames
from dpoframe_diffusion.latents import Encodings
from dpoframe_diffusion.loading import Location
from dpoframe_diffusion.shelf import Shelf
from safetensors.torch import load_file

from dpoframe import hookimpl
from dpoframe.config import load_recipe
from dpoframe.plugins import PluginHost
from dpoframe.train.fit import FitResult, fit

SECTION = FramingSection(resolution=16, multiple=8)
PROMPTS = ["a disc", "something red", "a ring"]
FORK = multiprocessing.get_context("fork")
INSTANTS = ("encoding", "half a shard", "a whole shard aside", "after its rename")


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard for each encoding, so that there are many instants."""
    monkeypatch.setattr(latents, "_SHARD", 1)


def die_at(instant: str, number: int) -> None:
    """This process is killed when it comes to the instant for the given time; for a process of its own."""
    seen = 0

    def now() -> bool:
        nonlocal seen
        seen += 1
        return seen > number

    def killed() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    write, replace, moments, prompts = shelf._write_through, Path.replace, latents.Frozen.moments, latents.Frozen.prompts

    def write_part(file: Path, content: bytes) -> None:
        if instant == "half a shard" and now():
            file.write_bytes(content[: len(content) // 2])
            killed()
        write(file, content)

    def rename(self: Path, target: Any) -> Path:
        if instant == "a whole shard aside" and now():
            killed()
        made = replace(self, target)
        if instant == "after its rename" and now():
            killed()
        return made

    def encode(plain: Callable[..., Any]) -> Callable[..., Any]:
        def encoded(*given: Any) -> Any:
            if instant == "encoding" and now():
                killed()
            return plain(*given)

        return encoded

    shelf._write_through, Path.replace = write_part, rename  # type: ignore[assignment, method-assign]
    latents.Frozen.moments, latents.Frozen.prompts = encode(moments), encode(prompts)  # type: ignore[method-assign]


def ended(target: Callable[[], Any]) -> int:
    """How a process of its own ends that does `target`; minus the signal that killed it."""
    process = FORK.Process(target=target)
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


@pytest.fixture
def prepare(sd: Path, examples: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Encodings]:
    """`prepare("cache")` encodes six pictures and three captions into a cache of that name."""
    given = examples()
    pictures = [(example.response, frame) for example, frame in zip(given, frames(given, SECTION), strict=True)]

    def go(name: str) -> Encodings:
        monkeypatch.setenv("DPOFRAME_CACHE", str(tmp_path / name))
        made = Encodings(Location(str(sd)))
        made.prepare(PROMPTS, pictures)
        return made

    return go


def content(encodings: Encodings) -> dict[str, dict[str, torch.Tensor]]:
    """All that lies in the cache, by a reader that begins anew."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for kept in (encodings.images, encodings.texts):
        assert kept is not None
        reader = Shelf(kept.folder)
        reader._scan()
        for key in list(reader._places):
            entry = reader.get(key)
            assert entry is not None
            found[key] = entry
    return found


def require_equal(found: Encodings, wanted: Encodings) -> None:
    """The same entries, to the bit."""
    now, before = content(found), content(wanted)
    assert now.keys() == before.keys()
    assert len(before) == 9
    for key, entry in before.items():
        assert entry.keys() == now[key].keys()
        assert all(torch.equal(value, now[key][name]) for name, value in entry.items())


@pytest.mark.parametrize("number", [0, 3, 7])
@pytest.mark.parametrize("instant", INSTANTS)
def test_what_a_killed_process_leaves(instant: str, number: int, prepare: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Killed at each stage of the first, fourth and eighth entry: the next process makes the rest, and has no word to say."""
    whole = prepare("whole")

    def killed() -> None:
        die_at(instant, number)
        prepare("killed")

    assert ended(killed) == -signal.SIGKILL
    with caplog.at_level(logging.WARNING):
        again = prepare("killed")
    assert caplog.text == ""
    require_equal(again, whole)
    assert again.images is not None
    shards = list(again.images.folder.parent.glob("*/shard-*"))
    assert len(shards) == 9, "what was there is not made again"
    left = list(again.images.folder.parent.glob("*/.*"))
    assert len(left) == (instant in INSTANTS[1:3])


def test_what_is_left_half_written_goes_after_a_day(prepare: Any, tmp_path: Path) -> None:
    """A killed process's half shard is removed by a later one that writes there, once it is a day old."""

    def killed() -> None:
        die_at("half a shard", 1)
        prepare("killed")

    assert ended(killed) == -signal.SIGKILL
    (left,) = tmp_path.glob("killed/diffusion/*/.*")
    os.utime(left, (time.time() - 90000,) * 2)
    prepare("killed")
    assert not left.exists()


def test_two_at_once_and_one_is_killed(prepare: Any) -> None:
    """Two processes encode into one cache, a third is killed half-way: both end well, and what lies there is right."""
    whole = prepare("whole")

    def killed() -> None:
        die_at("half a shard", 4)
        prepare("shared")

    running = [FORK.Process(target=target) for target in (lambda: prepare("shared"), killed, lambda: prepare("shared"))]
    for process in running:
        process.start()
    for process in running:
        process.join(120)
    codes = [process.exitcode for process in running]
    assert (codes[0], codes[2]) == (0, 0)
    assert codes[1] in (0, -signal.SIGKILL)  # 0 where the others left it no fifth entry to write
    require_equal(prepare("shared"), whole)


@pytest.fixture
def train(sd: Path, pairs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], FitResult]:
    """`train("name")` trains two steps, with a cache and a run folder of that name."""

    class Shapes:
        """The pairs of these tests."""

        @hookimpl
        def dpoframe_datasets(self) -> dict[str, Any]:
            """Discs against rings."""
            return {"shapes": lambda: pairs(6, 0)}

    host = PluginHost(entry_points=[])
    host.register(dpoframe_diffusion, "diffusion")
    host.register(Shapes(), "shapes")

    def go(name: str) -> FitResult:
        monkeypatch.setenv("DPOFRAME_CACHE", str(tmp_path / f"cache-{name}"))
        modality._encodings.cache_clear()  # as in a process that begins anew
        recipe = {
            "modality": {"name": "diffusion", "model": str(sd), "framing": {"resolution": 16}, "lora": {"r": 2}},
            "data": {"name": "shapes"},
            "loss": {"name": "sigmoid", "beta": 100},
            "trainer": {"max_steps": 2, "batch_size": 2, "lr": 0.001, "accelerator": "cpu", "devices": 1},
        }
        return fit(load_recipe(recipe, host=host), tmp_path / name, host=host)

    return go


@pytest.mark.parametrize("instant", INSTANTS[:2])
def test_a_run_that_was_killed_while_it_prepared(instant: str, train: Any) -> None:
    """The same command, given again, trains the model of an unbroken run: there is nothing to resume and nothing in the way."""
    whole = train("whole")

    def killed() -> None:
        die_at(instant, 2)
        train("killed")

    assert ended(killed) == -signal.SIGKILL
    again = train("killed")
    (file,) = whole.model.glob("**/*.safetensors")
    found, wanted = load_file(again.model / file.relative_to(whole.model)), load_file(file)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(value, found[name]) for name, value in wanted.items())
