"""One optimizer step is one optimizer step, however it is cut up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import logsigmoid

from dpoframe import Example, PreferencePair, losses
from dpoframe.data.batching import StepDataset
from dpoframe.data.sampler import PairStream
from dpoframe.testing.toy import ToyModality, toy_pairs


def close(first: Any, second: Any, look: Any) -> None:
    """Equal rows and weights, up to float64 rounding."""
    for one, other in zip(look.rows(first), look.rows(second), strict=True):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-11)
    for name, value in look.weights(first).items():
        torch.testing.assert_close(value, look.weights(second)[name], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", losses.names())
def test_every_loss_takes_one_trajectory_however_a_step_is_split(name: str, run: Any, look: Any) -> None:
    """Eight pairs at once, one by one, and cut to a token budget: same rows, same weights."""
    loss = {"name": name}
    whole = run("whole", loss=loss)
    close(whole, run("single", "trainer.accumulate_grad_batches=8", loss=loss), look)
    close(whole, run("budget", "trainer.tokens_per_batch=60", loss=loss), look)


def test_the_budget_and_the_count_do_split_the_step(make_recipe: Any) -> None:
    """The runs above differ in micro-batches: one, eight, and several of at most the budget."""
    recipe = make_recipe()
    stream = PairStream(toy_pairs(20), 8)
    sizes = [
        [sum(batch.units.tolist()) for batch in StepDataset(stream, recipe.modality.value, limit, least)[0].micro]
        for limit, least in ((None, 1), (None, 8), (60, 1))
    ]
    assert len(sizes[0]) == 1
    assert len(sizes[1]) == 8
    assert 1 < len(sizes[2]) < 8


@pytest.mark.parametrize("name", ["sigmoid", "aot", "kto", "sft", "bco_pair"])
def test_two_ranks_take_the_trajectory_of_one(name: str, run: Any, look: Any) -> None:
    """Two processes that share each step give the rows and weights of one, also for losses that couple pairs."""
    loss = {"name": name}
    alone = run("alone", "data.validation=0.25", loss=loss)
    pair = run(
        "two",
        "data.validation=0.25",
        "trainer.devices=2",
        "trainer.strategy=ddp_fork",
        "trainer.accumulate_grad_batches=2",
        loss=loss,
    )
    close(alone, pair, look)
    assert pair.steps == alone.steps == 3
    assert look.rows(alone, "validation")[0] == pytest.approx(look.rows(pair, "validation")[0], rel=1e-9)


def test_a_run_equals_a_plain_loop(run: Any, look: Any, make_recipe: Any) -> None:
    """Three steps of weighted DPO are those of a loop written out in torch: AdamW, linear decay, clipping, float64."""
    recipe = make_recipe()
    result = run("run", "loss.beta=0.5")
    modality = ToyModality()
    policy, reference = modality.build().double(), modality.build().double()
    pairs = list(recipe_pairs())
    stream = PairStream(pairs, 8, recipe.seed)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.02, weight_decay=0.0)
    for step in range(3):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * (1 - step / 3)
        members = [pairs[stream.order(epoch)[position]] for epoch, position in stream.step(step)]
        margins = torch.stack([margin(modality, policy, pair) - margin(modality, reference, pair).detach() for pair in members])
        weight = torch.tensor([pair.weight for pair in members])
        loss = (-logsigmoid(0.5 * margins) * weight).mean()
        assert look.rows(result)[step]["loss"] == pytest.approx(loss.item(), rel=1e-10)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        assert look.rows(result)[step]["grad_norm"] == pytest.approx(norm.item(), rel=1e-9)
        optimizer.step()
    for name, value in policy.state_dict().items():
        torch.testing.assert_close(look.weights(result)[name], value, rtol=1e-9, atol=1e-11)


def recipe_pairs() -> Any:
    """The pairs of the test recipe."""
    for number, pair in enumerate(toy_pairs(20)):
        yield PreferencePair(pair.prompt, pair.chosen, pair.rejected, pair.id, weight=1.0 + number % 3)


def margin(modality: ToyModality, model: torch.nn.Module, pair: Any) -> torch.Tensor:
    """Log p(chosen) - log p(rejected), one example at a time."""
    batch = modality.collate([Example(pair.prompt, response, 0, pair.id) for response in (pair.chosen, pair.rejected)])
    value = modality.score(model, batch | {"prompt": batch["prompt"].double()}).value
    return value[0] - value[1]


def test_workers_change_nothing(run: Any, look: Any) -> None:
    """Batches made in two processes are those made in the training process."""
    close(run("none", "data.validation=0.25"), run("two", "data.validation=0.25", "trainer.num_workers=2"), look)


def test_the_folder_of_a_run_is_not_in_its_result(run: Any, look: Any) -> None:
    """Two runs of one recipe are equal bit for bit."""
    first, second = run("first"), run("second")
    assert look.rows(first) == look.rows(second)
    assert all(torch.equal(value, look.weights(second)[name]) for name, value in look.weights(first).items())
