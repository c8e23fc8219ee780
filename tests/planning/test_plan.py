"""`make_plan` and `dpoframe plan`: the figures of a run of the toy modality, against the run itself and sums by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from torch import nn

from dpoframe import ConfigError, PreferencePair, hookimpl
from dpoframe.cli import main
from dpoframe.config import load_recipe
from dpoframe.planning import PARTS, PUBLISHED, Hardware, Plan, find_hardware, make_plan
from dpoframe.plugins import PluginHost, using
from dpoframe.testing import toy

MACHINE = Hardware("a box", 1e9, 4e9, 2**33, utilisation=0.5, gpu=False)
WIDTH, LETTERS, LENGTH = 16, len(toy.ALPHABET), 6


def even(count: int = 20) -> list[PreferencePair]:
    """Pairs whose responses all have five letters."""
    return [PreferencePair(f"say {chr(97 + n)}", "aeiou", "bcdfg", f"pair-{n}") for n in range(count)]


@dataclass(frozen=True)
class Stubborn(toy.ToyModality):
    """A modality whose outline cannot be gone through."""

    def score(self, model: nn.Module, batch: Any) -> Any:
        """Fails on tensors without values."""
        raise RuntimeError("this kernel wants numbers")


class Parts:
    """The plugin of these tests."""

    @hookimpl
    def dpoframe_datasets(self) -> dict[str, Any]:
        """The even pairs."""
        return {"even": even}

    @hookimpl
    def dpoframe_modalities(self) -> dict[str, Any]:
        """The stubborn one."""
        return {"stubborn": Stubborn}


@pytest.fixture
def host() -> Iterator[PluginHost]:
    """A host with the toy and the even pairs."""
    made = PluginHost(entry_points=[])
    made.register(toy, "toy")
    made.register(Parts(), "parts")
    with using(made):
        yield made


Planned = Callable[..., Plan]


@pytest.fixture
def planned(host: PluginHost) -> Planned:
    """`planned("trainer.lr=1", modality=...)`: the plan of a recipe changed so."""

    def plan(*changes: str, device: Hardware = MACHINE, **sections: Any) -> Plan:
        base = {
            "modality": {"name": "toy", "width": WIDTH},
            "data": "even",
            "reference": "copy",
            "trainer": {"max_steps": 10, "batch_size": 4, "accelerator": "cpu", "devices": 1},
        }
        return make_plan(load_recipe({**base, **sections}, changes, host=host), device, host)

    return plan


def forward(pairs: int) -> int:
    """Operations of scoring by hand: two for each multiplication with its addition, of the prompt's and the head's products."""
    return 2 * (2 * pairs) * LETTERS * WIDTH + 2 * (2 * pairs) * LENGTH * WIDTH * LETTERS


def backward(pairs: int) -> int:
    """The prompt's product has a gradient by the embedding alone, the head's by state and weight."""
    return 2 * (2 * pairs) * LETTERS * WIDTH + 2 * 2 * (2 * pairs) * LENGTH * WIDTH * LETTERS


def test_parameters_are_those_of_the_model(planned: Planned) -> None:
    """Counts equal those of the module that is built, with and without an adapter."""
    for adapter in (False, True):
        made = planned(modality={"name": "toy", "width": WIDTH, "adapter": adapter}, reference="adapter" if adapter else "copy")
        parameters = list(toy.ToyModality(width=WIDTH, adapter=adapter).build().parameters())
        assert made.parameters == sum(one.numel() for one in parameters)
        assert made.trainable == sum(one.numel() for one in parameters if one.requires_grad)
        assert made.types == {"float32": made.parameters}


@pytest.mark.parametrize(("kind", "models", "beforehand"), [("none", 1, 0), ("copy", 2, 0), ("ema", 2, 0), ("cached", 1, 20)])
def test_operations_equal_a_sum_by_hand(planned: Planned, kind: str, models: int, beforehand: int) -> None:
    """A step scores with the policy and once more with a live reference, and goes backward once."""
    loss = "sft" if kind == "none" else "sigmoid"
    made = planned(reference={"kind": kind}, loss=loss)
    assert made.operations is not None
    assert made.operations.step == models * forward(4) + backward(4)
    assert made.operations.beforehand == forward(beforehand)
    assert made.operations.run == 10 * made.operations.step + made.operations.beforehand


def test_micro_batches_change_the_memory_not_the_work(planned: Planned) -> None:
    """In four pieces a step does the same operations and keeps less."""
    whole, pieces = planned(), planned("trainer.accumulate_grad_batches=4")
    assert whole.operations == pieces.operations
    assert whole.memory is not None
    assert pieces.memory is not None
    assert pieces.memory.parts["activations"] < whole.memory.parts["activations"]


def test_validation_is_counted(planned: Planned) -> None:
    """Every validation scores each held-out pair once by policy and reference."""
    made = planned("trainer.validate_every=5", data={"name": "even", "validation": 4})
    assert made.operations is not None
    assert (made.pairs, made.validation) == (16, 4)
    assert made.operations.validation == 2 * 2 * forward(4)


def test_memory_by_part(planned: Planned) -> None:
    """Weights and reference are four bytes a parameter, AdamW's state eight and a counter, at the peak of the second step."""
    made = planned("trainer.precision=32-true")
    assert made.memory is not None
    assert made.parameters is not None
    parts = made.memory.parts
    assert parts["weights"] == parts["reference"] == 4 * made.parameters
    tensors = len(list(toy.ToyModality().build().parameters()))
    assert parts["optimizer"] == 8 * made.parameters + 4 * tensors
    assert parts["framework"] > 50 * 2**20
    assert made.memory.total == sum(parts.values())


def test_ranks_of_one_machine_share_its_memory(planned: Planned) -> None:
    """On a CPU the memory of all ranks of one machine must fit; GPUs have a memory each, and so have machines."""
    alone = planned("trainer.precision=32-true").memory
    both = planned("trainer.precision=32-true", "trainer.devices=2", "trainer.num_nodes=2").memory
    cards = planned("trainer.devices=2", device=PUBLISHED["a10"]).memory
    assert alone is not None
    assert both is not None
    assert cards is not None
    assert (alone.sharing, alone.together) == (1, alone.total)
    assert (both.sharing, both.together) == (2, 2 * sum(both.parts.values()))
    assert (cards.sharing, cards.together) == (1, sum(cards.parts.values()))
    with pytest.raises(ConfigError, match=r"The run has 6 ranks, and each needs a pair:(.|\n)*batch_size"):
        planned("trainer.devices=3", "trainer.num_nodes=2")


@pytest.mark.parametrize(("changes", "part"), [((), "buckets"), (("trainer.strategy=fsdp",), "gathered")])
def test_every_part_says_what_it_is(changes: tuple[str, ...], part: str, recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Text and document tell of each part what it is, those of several ranks too, and how many share the memory."""
    words = ["plan", recipe, *(word for one in ("trainer.devices=2", *changes) for word in ("--set", one))]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "2 ranks in one memory" in out
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["memory"]
    assert part in found["parts"]
    assert found["meaning"] == {name: PARTS[name] for name in found["parts"]}
    assert found["together"] == 2 * found["total"]
    assert all(f"{size / 2**20:,.1f}  {PARTS[name]}" in out for name, size in found["parts"].items() if name == part)


def test_half_precision_halves_the_weights(planned: Planned) -> None:
    """With `bf16-true` weights and state have two bytes, and the peak of 16 bits is reckoned with."""
    made, other = planned("trainer.precision=bf16-true"), planned()
    assert made.memory is not None
    assert other.memory is not None
    assert 2 * made.memory.parts["weights"] == other.memory.parts["weights"]
    assert made.seconds is not None
    assert other.seconds is not None
    assert made.seconds == pytest.approx(other.seconds / 4)


def test_amounts_and_time(planned: Planned) -> None:
    """Steps, tokens and time follow from the pairs, the operations and the hardware; two devices take half the time."""
    made = planned()
    assert (made.steps, made.batch_size, made.epochs, made.tokens_per_step, made.tokens) == (10, 4, 2.0, 8, 80)
    assert made.operations is not None
    assert made.seconds == pytest.approx(made.operations.run / (1e9 * 0.5))
    two = planned("trainer.devices=2")
    assert two.devices == 2
    assert two.seconds == pytest.approx(made.operations.run / (2 * 1e9 * 0.5))


def test_a_loss_over_the_step_is_looked_at_twice(planned: Planned) -> None:
    """A loss that couples pairs scores each micro-batch once more, in a pass without gradients."""
    made = planned("trainer.accumulate_grad_batches=2", loss="aot")
    assert made.operations is not None
    assert made.operations.step == 3 * forward(4) + backward(4)


def test_what_cannot_be_gone_through_is_said(planned: Planned) -> None:
    """Where code wants numbers, sizes are still told, the rest is unknown, and a note says why."""
    made = planned(modality={"name": "stubborn", "width": WIDTH})
    assert made.parameters == sum(one.numel() for one in toy.ToyModality(width=WIDTH).build().parameters())
    assert (made.memory, made.operations, made.seconds) == (None, None, None)
    assert any("this kernel wants numbers" in note for note in made.notes)


def test_hardware_by_name_and_by_numbers() -> None:
    """Names have short forms; numbers may have units; a share of the peak may be given."""
    assert find_hardware("H100") == PUBLISHED["h100-sxm"]
    assert find_hardware("A100 40GB") == PUBLISHED["a100-40gb"]
    found = find_hardware("312T:80G", 0.4)
    assert (found.float32, found.half, found.memory, found.utilisation) == (312e12, 312e12, 80e9, 0.4)
    assert find_hardware("3e12:8e9").memory == 8e9


@pytest.mark.parametrize(
    ("given", "share", "said"),
    [
        ("h10", None, "Did you mean 'h100'"),
        ("3T", None, "312T:80G"),
        ("0T:1G", None, "above 0"),
        ("1.2.3T:1G", None, "no pair"),
        ("h100", 1.5, "utilisation"),
        ("h100", 0.0, "utilisation"),
    ],
)
def test_wrong_hardware(given: str, share: float | None, said: str) -> None:
    """What is not known is refused, with what is."""
    with pytest.raises(ConfigError, match=said):
        find_hardware(given, share)


def test_this_machine_is_measured() -> None:
    """A speed of the order of what a processor has, and a memory."""
    found = find_hardware("", threads=1)
    assert found.source == "measured"
    assert 1e8 < found.float32 < 1e16
    assert found.memory > 2**28


@pytest.fixture
def recipe(host: PluginHost, tmp_path: Any) -> str:
    """A recipe in a file."""
    file = tmp_path / "toy.yaml"
    file.write_text("modality: toy\ndata: even\ntrainer: {max_steps: 3, devices: 1, accelerator: cpu}\n")
    return str(file)


def test_verb_gives_one_document(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json the plan is one document, with the sum of the parts and whether it fits."""
    assert main(["plan", recipe, "--hardware", "1T:1G", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 3
    assert found["memory"]["total"] == sum(found["memory"]["parts"].values())
    assert found["memory"]["fits"] is True
    assert found["hardware"]["utilisation"] == 0.35


def test_verb_tells_a_person(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without it: sizes, memory by part, whether it fits, time, and the share of the peak that was assumed."""
    assert main(["plan", recipe, "--set", "trainer.batch_size=2", "--hardware", "1T:1M", "--utilisation", "0.5"]) == 2
    assert "is not known" in capsys.readouterr().err
    assert main(["plan", recipe, "--set", "trainer.batch_size=2", "--hardware", "1T:1e6", "--utilisation", "0.5"]) == 0
    out = capsys.readouterr().out
    assert "3 steps of 2 pairs, 20 pairs to train on" in out
    assert "DOES NOT FIT" in out
    assert "of which 50% is assumed to be reached" in out
    assert "activations" in out
    assert "time in all" in out


@pytest.mark.parametrize("words", [["nothing"], ["--set", "trainer.steps=1"], ["--hardware", "abacus"]])
def test_verb_refuses(recipe: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A recipe, key or hardware that does not exist ends with exit code 2 and one message."""
    given = words if words == ["nothing"] else [recipe, *words]
    assert main(["plan", *given]) == 2
    assert capsys.readouterr().err.startswith("error: ")
