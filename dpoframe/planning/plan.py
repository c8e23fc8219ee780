"""`make_plan`: a recipe's size, cost and duration, before any weight is loaded."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from dpoframe.config.recipe import Recipe
from dpoframe.data.batching import Entry, PairBatch, StepDataset
from dpoframe.data.loading import LoadedPairs, load_pairs
from dpoframe.data.windowed_pairs import WindowedPairs
from dpoframe.errors import DpoframeError
from dpoframe.loss import Loss
from dpoframe.losses import combine
from dpoframe.modality import Batch, Modality
from dpoframe.planning.hardware import Hardware
from dpoframe.planning.heap import Heap
from dpoframe.planning.kernels import kernels_bytes
from dpoframe.planning.process import load_libraries, resident
from dpoframe.planning.rehearsal import GRADIENTS, OPTIMIZER, REFERENCE, WEIGHTS, Rehearsal
from dpoframe.planning.splitting import gathered_bytes, size_of
from dpoframe.planning.workload import Share, survey
from dpoframe.plugins import PluginHost
from dpoframe.plugins import host as installed
from dpoframe.train.feeding import data_module
from dpoframe.train.hooks import RunHooks
from dpoframe.train.reference import require_reference
from dpoframe.train.sizes import require_pairs_for
from dpoframe.types import Example

Pairs: TypeAlias = LoadedPairs | WindowedPairs
"""The pairs of a run, in memory or not."""

ALLOWANCE = 0.10
"""Share of what tensors occupy that an allocator holds on top of it, where it cannot be asked: assumed."""

_GPU_FRAMEWORK = 600 * 2**20
"""A CUDA context with the libraries of matrix products: assumed."""


PARTS: Mapping[str, str] = {
    "framework": "Python with its libraries; on a GPU the context",
    "data": "the pairs",
    WEIGHTS: "the policy's parameters and buffers",
    REFERENCE: "the reference's, where it is a model of its own",
    GRADIENTS: "of what is trained, as far as they are there at the peak",
    OPTIMIZER: "its state",
    "activations": "what the backward needs, and what operations need on the way",
    "buckets": "the copy of the gradients in which ranks exchange them",
    "gathered": "what is whole at one time of a model whose parts lie on the ranks: layers by twos, and what lies in no layer",
    "checkpoint": "the copy that is written in the background",
    "kernels": "code of the libraries that comes into memory when it first runs",
    "allocator": "held between blocks in use",
}
"""What each part of a plan's memory is."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at the moment of a step when they are most.

    Attributes:
        parts: By what they are for; `PARTS` says of each what it is.
        largest: Bytes and shape of the largest tensor among the activations, of one step; it is counted there.
        sharing: Devices that have the hardware's memory together: the ranks of one machine where they run on its CPU, else 1.
    """

    parts: Mapping[str, int]
    largest: tuple[int, tuple[int, ...]]
    sharing: int = 1

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(self.parts.values())

    @property
    def together(self) -> int:
        """Bytes of all devices that share one memory."""
        return self.total * self.sharing


@dataclass(frozen=True)
class Operations:
    """Floating-point operations over all ranks.

    Attributes:
        step: Of an optimizer step, on average.
        beforehand: Of scoring with the reference before the first step, for kind `cached`; nothing may be missing by then.
        validation: Of all validations.
        run: Of the whole run.
    """

    step: float
    beforehand: float
    validation: float
    run: float


@dataclass(frozen=True)
class Plan:
    """What a run will take. What could not be found out is None, and `notes` say why.

    Attributes:
        name: The recipe's.
        parameters: All parameters of the policy.
        trainable: Those that are trained.
        types: Parameters by type.
        pairs: Pairs to train on; None for a set that is read window by window.
        validation: Pairs to validate on.
        steps: Optimizer steps.
        batch_size: Pairs a step.
        epochs: Passes over the pairs, where their number is known.
        tokens_per_step: Tokens a step, as metrics.jsonl counts them; on average.
        tokens: Tokens in all.
        devices: How many the run is planned for.
        memory: Of one device.
        operations: Of all devices together.
        hardware: What they are.
        seconds_per_step: At the assumed share of the hardware's peak.
        seconds: Of the whole run.
        notes: What was assumed, and what is not in these figures.
    """

    name: str
    parameters: int | None
    trainable: int | None
    types: Mapping[str, int]
    pairs: int | None
    validation: int
    steps: int
    batch_size: int
    epochs: float | None
    tokens_per_step: float
    tokens: float
    devices: int
    hardware: Hardware
    memory: Memory | None = None
    operations: Operations | None = None
    seconds_per_step: float | None = None
    seconds: float | None = None
    notes: Sequence[str] = field(default_factory=tuple)


class Outlined:
    """A modality whose batches are outlines."""

    def __init__(self, modality: Modality) -> None:
        self._modality = modality

    def __getattr__(self, name: str) -> Any:
        return getattr(self._modality, name)

    def collate(self, examples: Sequence[Example]) -> Batch:
        """A batch of the right shapes."""
        return self._modality.outline_batch(examples)


def make_plan(recipe: Recipe, hardware: Hardware, host: PluginHost | None = None) -> Plan:
    """Finds out what a run of a recipe will take. Reads and measures the pairs; loads no weights, writes nothing.

    Args:
        recipe: The run.
        hardware: What it is to run on.
        host: Where plugins are; the installed ones unless given.

    Raises:
        ConfigError: the recipe cannot be run.
        DataError: no pair can be used.
    """
    known = host or installed()
    load_libraries()
    RunHooks(known.relay(recipe.active_plugins)).configure(recipe)
    loss = combine([(one.part.value, one.weight) for one in recipe.loss])
    modality: Modality = recipe.modality.value.with_details(loss.requires)
    require_reference(recipe, loss)
    before = resident()
    pairs = load_pairs(recipe.data, known, modality, seed=recipe.seed)
    held = max(0, resident() - before)
    return Planning(recipe, hardware, modality, loss, pairs, held).plan()


class Planning:
    """The making of one plan."""

    def __init__(self, recipe: Recipe, hardware: Hardware, modality: Modality, loss: Loss, pairs: Pairs, held: int) -> None:
        self.recipe, self.hardware, self.modality, self.loss = recipe, hardware, modality, loss
        self.pairs, self.held = pairs, held
        self.data = data_module(recipe, modality, loss, pairs)
        self.notes: list[str] = []
        self.ranks = self._ranks()
        self.devices = self.ranks * recipe.trainer.num_nodes
        require_pairs_for(self.devices, recipe.trainer, len(pairs.validation))
        self.data.train.world = self.devices
        self.work = survey(self.data.train, self.data.steps, pairs.count)
        if not self.work.whole:
            self.notes.append(f"Tokens were counted over the first {self.work.surveyed:,} pairs of the run.")

    def plan(self) -> Plan:
        """The plan."""
        work, size, model = self.work, self.recipe.trainer.batch_size, self.model()
        return Plan(
            name=self.recipe.name,
            pairs=self.pairs.count,
            validation=len(self.pairs.validation),
            steps=work.steps,
            batch_size=size,
            epochs=work.steps * size / self.pairs.count if self.pairs.count else None,
            tokens_per_step=work.units,
            tokens=work.units * work.steps,
            devices=self.devices,
            hardware=self.hardware,
            notes=self.said(),
            **model,
        )

    def model(self) -> dict[str, Any]:
        """What follows from the model: its size, memory, operations and time."""
        made: dict[str, Any] = {"parameters": None, "trainable": None, "types": {}}
        try:
            policy = self.modality.outline()
            framework = resident() - self.held
            rehearsal = Rehearsal(self.recipe, self.modality, self.loss, policy)
            made["parameters"], made["trainable"], made["types"] = rehearsal.counts()
            # In this order: what is done once, such as trying out a kernel, is no part of a later step.
            memory = self.memory(rehearsal, framework)
            operations = self.operations(rehearsal)
        except DpoframeError:
            raise
        except Exception as error:  # any code of any library may not know tensors without values
            told = (str(error).strip().splitlines() or [""])[0]
            self.notes.append(
                f"A step cannot be gone through without weights ({type(error).__name__}: {told[:200]}), so that memory, operations "
                "and time are unknown; see Modality.outline."
            )
            return made
        speed = self.hardware.peak(self.grade()) * self.hardware.utilisation * self.devices
        times = {"seconds_per_step": operations.step / speed, "seconds": operations.run / speed}
        return made | {"memory": memory, "operations": operations} | times

    def operations(self, rehearsal: Rehearsal) -> Operations:
        """Counted over a typical share, and taken in proportion to its tokens."""
        share = self.work.typical.some()
        batches = self.batches(share)
        per_token = self.work.units / max(1, share.units)
        step = rehearsal.step(batches) * per_token
        forward = sum(rehearsal.forward(one) for one in batches) / max(1, sum(len(one.ids) for one in batches))
        kind = self.recipe.reference.kind
        scored = sum(dataset.distinct_count(steps) for dataset, steps in self.data.datasets()) if kind == "cached" else 0
        models = 2 if kind in ("copy", "ema", "adapter") else 1
        return self._summed(step, forward * scored, forward * models * self._validated())

    def memory(self, rehearsal: Rehearsal, framework: int) -> Memory:
        """The peak of a step over the heaviest share, when the optimizer has its state."""
        batches = self.batches(self.work.heaviest.some())
        rehearsal.step(batches)
        rehearsal.ledger.forget_peak()
        rehearsal.step(batches)
        peak, gpu = rehearsal.ledger.peak, self.hardware.gpu
        parts = {"framework": _GPU_FRAMEWORK if gpu else framework} | ({} if gpu else {"data": self.held})
        parts |= {name: peak.get(name, 0) for name in (WEIGHTS, REFERENCE, GRADIENTS, OPTIMIZER)}
        parts["activations"] = sum(size for name, size in peak.items() if name not in parts)
        if self.devices > 1 and self.recipe.trainer.strategy != "fsdp":
            parts["buckets"] = size_of(value for value in rehearsal.policy.parameters() if value.requires_grad)
        elif self.devices > 1:
            parts |= {name: -(-parts[name] // self.devices) for name in (WEIGHTS, REFERENCE, GRADIENTS, OPTIMIZER)}
            parts["gathered"] = gathered_bytes(rehearsal.policy, self.modality.blocks(rehearsal.policy))
        if self.recipe.trainer.save_in_background and not gpu:
            parts["checkpoint"] = rehearsal.state_size()
        if not gpu:
            parts["kernels"] = kernels_bytes(rehearsal.ledger.seen)
        parts["allocator"] = self.held_between(rehearsal.ledger.heap, sum(peak.values()))
        return Memory(parts, rehearsal.ledger.largest, 1 if gpu else self.ranks)

    def held_between(self, heap: Heap, peak: int) -> int:
        """Bytes that the allocator holds between blocks that are in use, when they are most."""
        if self.hardware.gpu or heap.highest is None:
            self.notes.append(f"The allocator is assumed to hold {ALLOWANCE:.0%} more than the tensors need.")
            return int(ALLOWANCE * peak)
        return max(0, heap.highest - peak)

    def batches(self, share: Share) -> list[PairBatch]:
        """The micro-batches of a share."""
        dataset: StepDataset = copy.copy(self.data.train)
        dataset.modality = Outlined(self.modality)  # type: ignore[assignment]
        parts: list[list[Entry]] = share.parts
        return [dataset.collate(part) for part in parts]

    def grade(self) -> Any:
        """In what the run forms its matrix products."""
        kind = self.recipe.trainer.precision
        return "half" if kind.startswith(("16", "bf16", "transformer")) else "float32"

    def said(self) -> list[str]:
        """All notes."""
        recipe, notes = self.recipe, list(self.notes)
        if recipe.reference.kind == "cached":
            notes.append("Scoring with the reference beforehand is counted as if no score were kept yet.")
        if type(self.modality).outline is Modality.outline:
            notes.append(f"The modality {recipe.modality.name} has no outline() of its own: its build() was called.")
        if type(self.modality).prepare is not Modality.prepare:
            notes.append("What the modality prepares before the first step (encoding pictures) is not counted.")
        if recipe.evaluate:
            notes.append(f"Evaluations ({', '.join(recipe.evaluate)}) are not counted.")
        if self.hardware.gpu:
            notes.append("Activations are those of the CPU's kernels; a GPU's may keep more or less.")
        if self.devices > 1 and recipe.trainer.strategy != "fsdp":
            notes.append("Each device is taken to hold the whole model, as with ddp; fsdp needs less.")
        return notes

    def _summed(self, step: float, beforehand: float, validation: float) -> Operations:
        return Operations(step, beforehand, validation, step * self.work.steps + beforehand + validation)

    def _validated(self) -> int:
        """Pairs that are scored in all validations."""
        times = max(1, self.work.steps // (self.recipe.trainer.validate_every or self.work.steps))
        return times * len(self.pairs.validation)

    def _ranks(self) -> int:
        """Those of one machine: as many as the recipe says in so many words; `auto` counts as one."""
        given: Any = self.recipe.trainer.devices
        number = 1
        if isinstance(given, list):
            number = len(given)
        else:
            with contextlib.suppress(ValueError):
                number = int(given)
        if number < 1:
            self.notes.append(f"trainer.devices is {given}: one device is planned for.")
        return max(1, number)
