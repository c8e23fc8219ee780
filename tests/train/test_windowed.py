"""A run that reads its data window by window: broken off anywhere it ends as an unbroken one, and it says what it read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dpoframe import ConfigError, DataError


@pytest.fixture
def data(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`data(count)` writes a file of so many rows, every tenth of them with equal responses, and gives its section."""

    def make(count: int = 60, word: str = "a") -> dict[str, Any]:
        file = tmp_path / "pairs.jsonl"
        rows = [{"prompt": f"say {n}", "chosen": word * (n % 7 + 1), "rejected": "b" * (n % 5 + 1)} for n in range(count)]
        for row in rows[::10]:
            row["rejected"] = row["chosen"]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {"name": "jsonl", "path": str(file), "window": 16}

    return make


STEPS = ("trainer.max_steps=12", "trainer.save_every=1", "trainer.keep_checkpoints=20")


def cut(folder: Path, step: int) -> None:
    """Takes the run back to a checkpoint, as if it had been killed after it."""
    shutil.rmtree(folder / "model")
    for file in (folder / "checkpoints").glob("step-*"):
        if int(file.stem.removeprefix("step-")) > step:
            file.unlink()


@pytest.mark.parametrize("step", [1, 3, 8])
def test_it_goes_on_exactly(step: int, data: Any, run: Any, look: Any) -> None:
    """In the first window, across windows, and in the second epoch: equal rows and weights."""
    section = data()
    whole = run("whole", *STEPS, data=section)
    rows, weights = look.rows(whole), look.weights(whole)
    assert [row["epoch"] for row in rows][-1] == 1.0
    cut(whole.folder, step)
    run("whole", *STEPS, data=section, resume=True)
    assert look.rows(whole) == rows
    assert all(torch.equal(value, weights[name]) for name, value in look.weights(whole).items())


def test_workers_and_ranks_see_the_same_pairs(data: Any, run: Any, look: Any) -> None:
    """Two data-loading processes, and two ranks: the losses of one process, and every window noted once."""
    section = data()
    alone = run("alone", *STEPS, data=section)
    workers = run("workers", *STEPS, "trainer.num_workers=2", data=section)
    assert look.rows(workers) == look.rows(alone)
    ranks = run("ranks", *STEPS, "trainer.devices=2", "trainer.strategy=ddp_fork", data=section)
    for one, other in zip(look.rows(alone), look.rows(ranks), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-9)
    for result in (alone, workers, ranks):
        marks = [json.loads(line) for line in (result.folder / "data" / "windows.jsonl").read_text().splitlines()]
        assert [(mark["first"], mark["pairs"]) for mark in marks] == [(0, 16), (18, 16), (36, 16), (54, 6)]
        assert len((result.folder / "data" / "quarantine.jsonl").read_text().splitlines()) == 6
        summary = json.loads((result.folder / "data" / "summary.json").read_text())
        assert (summary["rows"], summary["train"], summary["by_code"]) == (60, 54, {"identical": 6})


def test_held_out_pairs_are_the_first(data: Any, run: Any, look: Any) -> None:
    """`validation: 8` takes the first 8 usable pairs; training begins behind them and refuses their prompts."""
    section = data() | {"validation": 8}
    done = run("run", *STEPS, data=section)
    assert look.rows(done, "validation")
    summary = json.loads((done.folder / "data" / "summary.json").read_text())
    assert (summary["rows"], summary["train"], summary["validation"]) == (60, 46, 8)


def test_a_file_that_changed_is_refused(data: Any, run: Any) -> None:
    """Its beginning is compared before weights are loaded; `--allow-change data` starts to count anew."""
    done = run("run", *STEPS, data=data())
    cut(done.folder, 3)
    with pytest.raises(DataError, match=r"the first 18 rows hold other pairs than when the run began(.|\n)*--allow-change data"):
        run("run", *STEPS, data=data(word="e"), resume=True)
    assert run("run", *STEPS, data=data(), resume=True).status == "finished"


def test_what_needs_all_pairs_is_refused(data: Any, run: Any) -> None:
    """A share for validation, a number of epochs, cached scores: all told at once, before anything is read."""
    section = data() | {"validation": 0.1}
    with pytest.raises(ConfigError) as told:
        run("run", "trainer.max_steps=null", data=section, reference={"kind": "cached"})
    text = str(told.value)
    assert "trainer.max_steps (--set): is needed with data.window" in text
    assert "reference.kind: is cached, and data.window is set" in text
    assert "data.validation: is the share 0.1" in text


def test_a_set_of_which_nothing_can_be_used(tmp_path: Path, run: Any) -> None:
    """The first window says what a whole pass would."""
    file = tmp_path / "bad.jsonl"
    file.write_text(json.dumps({"prompt": "p", "chosen": "a", "rejected": "a"}) + "\n")
    with pytest.raises(DataError, match="All 1 rows of data set 'jsonl'"):
        run("run", *STEPS, data={"name": "jsonl", "path": str(file), "window": 16})
