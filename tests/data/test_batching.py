"""From pairs to micro-batches: nothing lost, nothing over the budget, the same scores and loss however a step is cut."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import torch
from torch.nn.functional import logsigmoid

from dpoframe import Example, Measure, PreferencePair, as_text, content_digest
from dpoframe.data.batching import StepDataset, micro_batches, move, score_key, steps_of_one_pass, within_limit
from dpoframe.data.sampler import PairStream
from dpoframe.testing.toy import ToyModality


class Sized(ToyModality):
    """The toy with sizes in characters."""

    def measure(self, example: Example) -> Measure:
        """Characters."""
        size = len(as_text(example.prompt)), len(as_text(example.response))
        return Measure(*size, content_digest(example.prompt), content_digest(example.response))


def made(count: int = 40, prompts: int = 15) -> list[PreferencePair]:
    """Pairs of very unlike lengths; some prompts occur several times."""
    draw = random.Random(1)

    def words(most: int) -> str:
        return "".join(draw.choice("abcdefgh ") for _ in range(draw.randint(1, most)))

    asked = [f"{words(30)}{number}" for number in range(prompts)]
    return [PreferencePair(asked[number % prompts], words(60), words(60), str(number), 1.0 + number % 3) for number in range(count)]


def dataset(bucket: bool = True, **given: Any) -> StepDataset:
    """The pairs, 8 a step."""
    return StepDataset(PairStream(made(), 8, seed=5, bucket=bucket), Sized(), **given)


def epoch(data: StepDataset) -> list[Any]:
    """The micro-batches of one epoch's steps."""
    return [part for number in range(steps_of_one_pass(data.stream)) for part in data[number].micro]


CUTS: list[dict[str, Any]] = [{}, {"accumulate": 3}, {"accumulate": 8}, {"tokens_per_batch": 150}, {"tokens_per_batch": 1}]


@pytest.mark.parametrize("bucket", [True, False])
@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_scores_and_summed_loss_are_those_of_the_pairs_alone(bucket: bool, cut: dict[str, Any]) -> None:
    """Each pair of an epoch is scored once, as by itself; the weighted DPO loss over the epoch is the sum written out."""
    modality = Sized()
    policy, reference = modality.build().double(), ToyModality(init_seed=1).build().double()

    def margins(pairs: Any) -> torch.Tensor:
        inputs = pairs if isinstance(pairs, dict) else pairs.inputs
        inputs = {**inputs, "prompt": inputs["prompt"].double()}
        half = len(inputs["prompt"]) // 2
        logratio = modality.score(policy, inputs).value - modality.score(reference, inputs).value
        return logratio[:half] - logratio[half:]

    alone = {
        pair.id: margins(modality.collate([Example(pair.prompt, text, 0, pair.id) for text in (pair.chosen, pair.rejected)])).item()
        for pair in made()
    }
    with torch.no_grad():
        parts = epoch(dataset(bucket, **cut))
        found = {name: value for part in parts for name, value in zip(part.ids, margins(part).tolist(), strict=True)}
        total = sum((-logsigmoid(0.5 * margins(part)) * part.weight).sum().item() for part in parts)
    assert sorted(name for part in parts for name in part.ids) == sorted(alone)
    assert found == pytest.approx(alone, rel=1e-6, abs=1e-6)  # the shares of the prompt's characters are float32
    weighted = [-logsigmoid(torch.tensor(0.5 * alone[pair.id], dtype=torch.float64)).item() * pair.weight for pair in made()]
    assert total == pytest.approx(sum(weighted), rel=1e-6)


@pytest.mark.parametrize("limit", [60, 150, 400])
def test_no_micro_batch_goes_over_the_budget(limit: int) -> None:
    """Units with each prompt counted once stay within the limit, but for a single pair that is larger by itself."""
    parts = epoch(dataset(tokens_per_batch=limit))
    pairs = {pair.id: pair for pair in made()}
    for part in parts:
        members = [pairs[name] for name in part.ids]
        units = sum(len(prompt) for prompt in {pair.prompt for pair in members})
        units += sum(len(pair.chosen) + len(pair.rejected) for pair in members)
        assert units <= limit or len(members) == 1
    assert any(len(part.ids) > 1 for part in parts)


def test_the_budget_is_used() -> None:
    """A new micro-batch is begun only where the next pair would not fit."""
    data = dataset(tokens_per_batch=150)
    entries = [data.entry(0, position) for position in range(40)]
    parts = list(within_limit(entries, 150))
    for part, following in itertools.pairwise(parts):
        known = {entry.pair.prompt for entry in part}
        used = sum(map(len, known)) + sum(len(entry.pair.chosen) + len(entry.pair.rejected) for entry in part)
        pair = following[0].pair
        cost = len(pair.chosen) + len(pair.rejected) + (0 if pair.prompt in known else len(pair.prompt))
        assert used + cost > 150


@pytest.mark.parametrize("least", [1, 2, 5, 8])
def test_micro_batches_are_a_partition_with_prompts_together(least: int) -> None:
    """At least so many parts, every pair in one of them, and the pairs of a prompt in one stretch."""
    data = dataset()
    entries = [data.entry(0, position) for position in range(8)]
    parts = list(micro_batches(entries, None, least))
    flat = [entry.pair for part in parts for entry in part]
    assert len(parts) == least
    assert sorted(pair.id for pair in flat) == sorted(entry.pair.id for entry in entries)
    assert len([key for key, _ in itertools.groupby(pair.prompt for pair in flat)]) == len({pair.prompt for pair in flat})


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_divide_a_step(world: int) -> None:
    """All ranks' pairs together are the step's, and each knows the whole step's size, mean chosen length and epoch."""
    whole = dataset()
    for number in range(6):
        ranks = [dataset(rank=rank, world=world)[number] for rank in range(world)]
        ids = sorted(name for batch in ranks for part in batch.micro for name in part.ids)
        alone = whole[number]
        assert ids == sorted(name for part in alone.micro for name in part.ids)
        assert {(batch.pairs, batch.chosen_length, batch.epoch) for batch in ranks} == {(8, alone.chosen_length, alone.epoch)}


def test_what_a_micro_batch_says_of_its_pairs() -> None:
    """Weights, units and lengths are those of the pairs, in the order of their ids."""
    pairs = {pair.id: pair for pair in made()}
    for part in epoch(dataset(accumulate=2)):
        own = [pairs[name] for name in part.ids]
        assert part.weight.tolist() == [pair.weight for pair in own]
        assert part.units.tolist() == [len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in own]
        assert part.lengths.tolist() == [*(len(pair.chosen) for pair in own), *(len(pair.rejected) for pair in own)]


def test_a_mismatched_response_belongs_to_another_prompt() -> None:
    """Whatever the split, a pair's prompt goes with the same chosen response of the next pair of another prompt."""
    whole, split = dataset(mismatched=True), dataset(mismatched=True, accumulate=4, rank=1, world=2)
    for position in range(40):
        wrong = whole.entry(0, position).mismatched
        assert wrong is not None
        assert wrong == split.entry(0, position).mismatched
        owners = {pair.prompt for pair in made() if pair.chosen == wrong.response}
        assert wrong.prompt not in owners


def test_a_mismatched_example_has_no_partner() -> None:
    """Where a step holds a pair several times with one seed, nobody takes its mismatched examples for a pair."""
    stream = PairStream(made()[:3], 6, seed=5)
    data = StepDataset(stream, Sized(), mismatched=True, bank=1)
    found = [entry.mismatched for entry in data.entries(range(2))]
    names = [(one.pair_id, one.seed) for one in found if one is not None]
    assert len(set(names)) == len(names) == 12
    assert len({seed for _, seed in names}) == 3


def test_names_of_scores() -> None:
    """A pair's two scores have names of their own; the seed is part of one only where the modality draws from it."""
    data = dataset()
    early, late = data.entry(0, 0), data.entry(1, data.stream.order(1).index(data.stream.order(0)[0]))
    assert early.pair == late.pair
    assert early.chosen.seed != late.chosen.seed
    assert data.keys(early) == data.keys(late)
    assert len(set(data.keys(early))) == 2
    drawing = StepDataset(data.stream, type("Drawing", (Sized,), {"stochastic": True})())
    assert drawing.keys(early) != drawing.keys(late)
    assert score_key("a", "b") != score_key("b", "a")


def test_moving_goes_through_containers() -> None:
    """A batch's tensors reach the device through dataclasses, lists and dicts."""
    part = dataset()[0].micro[0]
    moved = move(part, "meta")
    assert moved.weight.device.type == moved.inputs["target"].device.type == "meta"
    assert moved.ids == part.ids
