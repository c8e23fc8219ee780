"""The stream of pairs: whole epochs, steps across their borders, buckets that lose nothing, shares that add up."""

from __future__ import annotations

import itertools
import random

import pytest

from dpoframe import PreferencePair
from dpoframe.data.sampler import PairStream, StepSampler, prompt_key, rough_size, share, sort_by_length


def made(count: int, prompts: int, seed: int = 0) -> list[PreferencePair]:
    """`count` pairs of `prompts` prompts, of lengths from 10 to about 900 characters."""
    draw = random.Random(seed)
    return [
        PreferencePair(f"p{number % prompts}", "c" * draw.randint(4, 450), "r" * draw.randint(4, 450), str(number))
        for number in range(count)
    ]


SHAPES = [(1, 1, 8), (7, 7, 3), (20, 5, 8), (37, 37, 8), (100, 30, 7), (300, 300, 8), (5, 2, 12)]


@pytest.mark.parametrize("bucket", [True, False])
@pytest.mark.parametrize(("count", "prompts", "size"), SHAPES)
def test_each_epoch_holds_every_pair_once(count: int, prompts: int, size: int, bucket: bool) -> None:
    """With buckets and without, the order of an epoch is a permutation, whatever the sizes."""
    stream = PairStream(made(count, prompts), size, seed=3, bucket=bucket)
    for epoch in range(5):
        assert sorted(stream.order(epoch)) == list(range(count))


@pytest.mark.parametrize(("count", "prompts", "size"), SHAPES)
def test_steps_cover_the_stream_without_gaps(count: int, prompts: int, size: int) -> None:
    """Steps one after the other are the epochs one after the other; no step is smaller."""
    stream = PairStream(made(count, prompts), size)
    steps = [stream.step(number) for number in range(3 * count)]
    assert all(len(step) == size for step in steps)
    flat = list(itertools.chain(*steps))
    assert flat == [(place // count, place % count) for place in range(len(flat))]
    seen = [stream.order(epoch)[position] for epoch, position in flat]
    assert sorted(seen[: 2 * count]) == sorted(2 * [*range(count)])


def test_an_order_depends_on_seed_and_epoch_alone() -> None:
    """Epochs asked for out of order are the same; another seed or epoch gives another order."""
    pairs = made(60, 60)
    stream, again = PairStream(pairs, 8, seed=1), PairStream(pairs, 8, seed=1)
    late = again.order(4)
    assert [stream.order(epoch) for epoch in range(5)][4] == late
    orders = {tuple(PairStream(pairs, 8, seed=seed).order(epoch)) for seed in (1, 2) for epoch in (0, 1)}
    assert len(orders) == 4


def test_buckets_hold_pairs_of_about_one_length() -> None:
    """The lengths of a whole step spread less than half as far as without buckets, in every epoch, and steps are shuffled."""
    pairs = made(400, 400)

    def spread(bucket: bool, epoch: int) -> float:
        stream = PairStream(pairs, 8, bucket=bucket)
        whole = [stream.step(number) for number in range(50 * epoch, 50 * (epoch + 1))]
        sizes = [[rough_size(pairs[stream.order(of)[position]]) for of, position in step] for step in whole]
        return sum(max(step) - min(step) for step in sizes) / len(sizes)

    assert all(spread(True, epoch) < 0.5 * spread(False, epoch) for epoch in range(3))
    first = [rough_size(pairs[index]) for index in PairStream(pairs, 8).order(0)[::8]]
    assert first != sorted(first)


def test_pairs_of_one_prompt_stay_together() -> None:
    """Sorting by length keeps a prompt's pairs side by side, in their order."""
    pairs = made(30, 6)
    order = sort_by_length(pairs, range(30))
    prompts = [prompt_key(pairs[index].prompt) for index in order]
    assert len([key for key, _ in itertools.groupby(prompts)]) == 6
    groups = [[*group] for _, group in itertools.groupby(order, key=lambda index: index % 6)]
    assert all(group == sorted(group) for group in groups)


def test_without_shuffling_one_pass_in_the_order_of_the_file() -> None:
    """Validation: each pair once, in order, the last step smaller."""
    stream = PairStream(made(10, 10), 4, shuffle=False)
    steps = [[stream.order(epoch)[position] for epoch, position in stream.step(number)] for number in range(4)]
    assert steps == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], []]


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 6, 7, 50])
def test_shares_are_equal_but_for_one_and_lose_nothing(count: int, world: int) -> None:
    """The ranks' shares, laid side by side, are the whole."""
    shares = [list(range(count))[share(count, rank, world)] for rank in range(world)]
    assert list(itertools.chain(*shares)) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_resumed_sampler_counts_the_whole_run() -> None:
    """Steps done are left out of the numbers, not out of the length."""
    sampler = StepSampler(3, 6)
    assert [*sampler] == [3, 4, 5]
    assert len(sampler) == 6


@pytest.mark.parametrize("bucket", [True, False])
def test_the_order_is_that_of_one_process_up_to_4096_ranks(bucket: bool) -> None:
    """Whatever the number of ranks, their shares of a step, laid side by side, are the step of one process, in its order."""
    size, pairs = 8192, made(10_000, 3_000)
    whole = [PairStream(pairs, size, 5, bucket).step(number) for number in range(4)]
    for world in (1, 2, 3, 64, 1000, 4096):
        for rank in {0, world // 2, world - 1}:  # each rank computes the order for itself
            own = PairStream(pairs, size, 5, bucket)
            assert [own.step(number)[share(size, rank, world)] for number in range(4)] == [
                step[share(size, rank, world)] for step in whole
            ]
        assert [place for rank in range(world) for place in whole[3][share(size, rank, world)]] == whole[3]
