"""Sets that are read window by window: the same pairs, in constant memory, from wherever one goes on."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from dpoframe import DataError, PreferencePair, RefusedRow
from dpoframe.data.batching import StepDataset
from dpoframe.data.inspection import Inspection
from dpoframe.data.windowed_stream import WindowedStream
from dpoframe.data.windows import KEPT, WindowReader
from dpoframe.testing.toy import ToyModality


class Source:
    """`count` rows, of which every seventh is refused; counts how many rows were asked for, and how often it was opened."""

    def __init__(self, count: int, changed: int = -1) -> None:
        self.count, self.changed, self.read, self.opened = count, changed, 0, 0

    def __call__(self, ahead: int) -> Iterator[PreferencePair | RefusedRow]:
        """The rows behind the first `ahead`."""
        self.opened += 1
        return itertools.islice(self._rows(), ahead, None)

    def _rows(self) -> Iterator[PreferencePair | RefusedRow]:
        for number in range(self.count):
            self.read += 1
            if number % 7 == 3:
                yield RefusedRow("source", number + 1, "invalid-json", "broken")
            else:
                word = "other" if number == self.changed else "good"
                yield PreferencePair(f"prompt {number // 2}", f"{word} {number}", f"bad {number}" * (number % 5 + 1), str(number))


def reader(source: Callable[[int], Any], size: int = 16, **given: Any) -> WindowReader:
    """Windows over a source."""
    return WindowReader("the source", size, source, partial(Inspection, "the source"), **given)


def stream(source: Callable[[int], Any], size: int = 16, batch: int = 5, **given: Any) -> WindowedStream:
    """A stream over it."""
    return WindowedStream(reader(source, size, **given), batch, seed=3)


def names(found: WindowedStream, steps: range) -> list[list[str]]:
    """Ids of the pairs of some steps."""
    return [[found.pair(*place).id for place in found.step(number)] for number in steps]


USABLE = [str(number) for number in range(100) if number % 7 != 3]


@pytest.mark.parametrize("size", [5, 16, 86, 1000])
@pytest.mark.parametrize("bucket", [True, False])
def test_each_epoch_holds_every_pair_once(size: int, bucket: bool) -> None:
    """Three epochs of 86 pairs in windows of any size, cut into steps that do not divide them."""
    found = WindowedStream(reader(Source(100), size), 5, 3, bucket)
    flat = [name for step in names(found, range(60)) for name in step]
    assert len(USABLE) == 86
    for epoch in range(3):
        assert sorted(flat[epoch * 86 : (epoch + 1) * 86], key=int) == USABLE
    assert flat[:86] != flat[86:172]


def test_a_window_is_shuffled_inside_itself() -> None:
    """The first 16 pairs of an epoch are the first 16 usable ones, in another order."""
    first = [name for step in names(stream(Source(100), batch=4), range(4)) for name in step]
    assert sorted(first, key=int) == USABLE[:16]
    assert first != USABLE[:16]


@pytest.mark.parametrize("start", [0, 1, 7, 20, 33, 51])
def test_a_run_goes_on_with_the_same_pairs(start: int) -> None:
    """From any step, with the marks of what was read before or without them, also in a copy that was sent to a worker."""
    whole = stream(Source(100))
    expected = names(whole, range(60))
    assert names(stream(Source(100)), range(start, 60)) == expected[start:]
    later = stream(Source(100))
    later.windows.take_on(whole.windows.marks)
    assert names(later, range(start, 60)) == expected[start:]
    assert names(pickle.loads(pickle.dumps(whole)), range(start, 60)) == expected[start:]


def test_marks_save_checking_and_the_source_is_read_once() -> None:
    """Forwards nothing is read twice; with marks what comes before is passed over without a check."""
    source = Source(100)
    whole = stream(source)
    names(whole, range(17))
    assert (source.opened, source.read) == (1, 100)
    later = stream(again := Source(100))
    later.windows.take_on(whole.windows.marks)
    names(later, range(16, 17))
    assert again.opened == 1


def test_memory_holds_two_windows() -> None:
    """However many were read."""
    found = stream(Source(1000), size=10)
    names(found, range(100))
    assert len(found.windows._held) == KEPT


def test_a_source_that_changed_is_refused() -> None:
    """In the second epoch, or where a run goes on, a window that holds other pairs is named by its rows."""
    source = Source(100)
    found = stream(source)
    names(found, range(18))
    source.changed = 20
    with pytest.raises(DataError, match=r"has changed since it was first read: rows 20 to 37 hold other pairs"):
        names(found, range(18, 25))


def test_limit_and_skipped_rows() -> None:
    """The first 20 rows are held out, and of the rest 30 pairs are used."""
    found = stream(Source(100), skip=20, limit=30)
    flat = [name for step in names(found, range(6)) for name in step]
    assert sorted(flat, key=int) == [name for name in USABLE if int(name) >= 20][:30]
    assert found.windows.count == 30


def test_an_end_at_a_window_s_border() -> None:
    """Where the last window is full the end is found by asking for one more."""
    found = stream(Source(14), size=12, batch=4)
    assert found.windows.count is None
    assert sorted(name for step in names(found, range(3)) for name in step) == sorted(USABLE[:12])
    names(found, range(3, 4))
    assert found.windows.count == 12


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_a_step(world: int) -> None:
    """Each rank reads the source for itself; together they hold the step, with mismatched responses from the same window."""
    parts = [
        [StepDataset(stream(Source(100)), ToyModality(), mismatched=True, rank=rank, world=world)[step] for step in range(20)]
        for rank in range(world)
    ]
    expected = names(stream(Source(100)), range(20))
    for step in range(20):
        ids = [name for rank in range(world) for micro in parts[rank][step].micro for name in micro.ids]
        assert sorted(ids) == sorted(expected[step])
        assert {parts[rank][step].pairs for rank in range(world)} == {5}


def test_measures_do_not_pile_up() -> None:
    """What is remembered of pairs is dropped with them."""
    data = StepDataset(stream(Source(1000), size=10), ToyModality())
    for step in range(100):
        data[step]
    assert len(data._measures) <= data.stream.memory == KEPT * 10
