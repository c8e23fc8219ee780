"""A model under evaluation: scores responses and writes answers, and knows what it is."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from dpoframe.checkpoint.model import versions
from dpoframe.digests import tensors_digest
from dpoframe.harness.storage import keys
from dpoframe.modality import Modality
from dpoframe.types import Example, Measure, Request, Sample

if TYPE_CHECKING:
    from torch import nn

Progress: TypeAlias = Callable[[str, int, int], None]
"""`progress(stage, done, total)`, called after every batch of work."""

UNITS_A_BATCH = 2048
"""Units (tokens) scored at once; it bounds memory and never changes a figure beyond float rounding."""

SEEDED_A_BATCH = 16
"""Examples scored at once of a modality whose scores depend on seeds, such as pictures, where it does not say."""

# What a model's configuration says of where it lies, how it was saved or whether it trains: no answer depends on it.
_IDLE = {
    "transformers_version", "torch_dtype", "dtype", "use_cache", "base_model_name_or_path", "inference_mode", "revision",
    "peft_version", "auto_mapping", "gradient_checkpointing",
}  # fmt: skip


def silent(stage: str, done: int, total: int) -> None:
    """The progress that nobody watches."""


@dataclass
class Subject:
    """A model with its modality.

    Attributes:
        name: What reports call it.
        modality: How it scores and writes; what weighs scores for training alone is left out of it (`for_evaluation`).
        model: Its weights.
        adapter_off: Whether it stands for the model without its adapter, as before training.
    """

    name: str
    modality: Modality
    model: nn.Module
    adapter_off: bool = False
    _known: dict[str, list[tuple[float, float]]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.modality = self.modality.for_evaluation()

    @cached_property
    def digest(self) -> str:
        """Digest of weights and of what else decides scores and answers, taken when first asked for.

        That is the modality's fingerprint (tokenizer, template, dtype), the model's configuration and its adapters'
        (a rotary base or a LoRA scale stands in no weight), and the versions of the libraries. With the adapter off nothing
        of it is counted: the base is the same before training, after it, and under another adapter.
        """
        import torch

        kind = type(self.modality)
        code = getattr(sys.modules.get(kind.__module__.split(".")[0]), "__version__", "")
        seen = hashlib.blake2b(json.dumps(self.modality.fingerprint(), sort_keys=True, default=str).encode(), digest_size=16)
        seen.update(
            keys.digest(kind.__qualname__, code, self.adapter_off, versions(), _configured(self.model, self.adapter_off)).encode()
        )
        idle = _adapting(self.model) if self.adapter_off else frozenset()
        named = ((name, tensor) for name, tensor in self.model.state_dict().items() if isinstance(tensor, torch.Tensor))
        seen.update(tensors_digest((name, tensor) for name, tensor in named if name not in idle).encode())
        return seen.hexdigest()

    def batches(self, examples: Mapping[str, Example], sizes: Mapping[str, Measure]) -> list[dict[str, Example]]:
        """The examples in batches of similar length within `UNITS_A_BATCH`, those of one prompt side by side.

        A modality whose scores depend on seeds may decide on the two of a pair together (one crop for both pictures), so they are
        never taken apart; and since its units say little of memory, it gets `SEEDED_A_BATCH` examples at a time, or as many as its
        field `scoring_batch` says.

        The batches follow from the examples alone, not from which of them are scored already: float sums depend in their
        last digits on what shares a batch, and a run that was cut off must end in the same numbers.
        """
        order = sorted(examples, key=lambda key: (sizes[key].prompt, sizes[key].prompt_digest, key))
        seeded = self.modality.stochastic
        most = int(getattr(self.modality, "scoring_batch", SEEDED_A_BATCH if seeded else len(order)))
        groups: dict[Hashable, list[str]] = {}
        for key in order:
            groups.setdefault((examples[key].pair_id, examples[key].seed) if seeded else key, []).append(key)
        made: list[dict[str, Example]] = []
        units = 0
        for group in groups.values():
            size = sum(sizes[key].prompt + sizes[key].response for key in group)
            if not made or units + size > UNITS_A_BATCH or len(made[-1]) + len(group) > most:
                made.append({})
                units = 0
            made[-1] |= {key: examples[key] for key in group}
            units += size
        return made

    def scores(self, examples: Sequence[Example], stage: str = "", progress: Progress = silent) -> list[tuple[float, float]]:
        """(score, length) of each example, in order; for whoever scores outside a suite, and stores nothing."""
        sizes = [self.modality.measure(one) for one in examples]
        names = [keys.logp_key("", *pair) for pair in zip(examples, sizes, strict=True)]
        found: dict[str, tuple[float, float]] = {}
        for batch in self.batches(dict(zip(names, examples, strict=True)), dict(zip(names, sizes, strict=True))):
            found |= self.scores_of(batch)
            progress(stage, len(found), len(set(names)))
        return [found[name] for name in names]

    def scores_of(self, batch: Mapping[str, Example]) -> dict[str, tuple[float, float]]:
        """(score, length) of each example of one batch. A batch that was scored before is not scored again."""
        name = keys.digest(list(batch))
        if name not in self._known:
            with self._ready():
                found = self.modality.score(self.model, self._moved(list(batch.values())))
            self._known[name] = list(zip(found.value.double().tolist(), found.length.double().tolist(), strict=True))
        return dict(zip(batch, self._known[name], strict=True))

    def portions(self, requests: Mapping[str, Request], sizes: Mapping[str, int]) -> list[list[str]]:
        """Keys of the requests as the modality answers them together, shortest prompts first; by ones where it does not say.

        A modality with a field `generation_batch` writes that many answers at a time. A portion is asked for as a whole or
        not at all, for the reason given at `batches`.
        """
        size = int(getattr(self.modality, "generation_batch", 1))
        if size <= 1:
            return [[key] for key in requests]
        order = sorted(requests, key=lambda key: (repr(sorted(dict(requests[key].settings).items())), sizes[key]))
        return [order[start : start + size] for start in range(0, len(order), size)]

    def measure(self, request: Request) -> Measure:
        """What the model sees of a prompt, and its length."""
        return self.modality.measure(Example(request.prompt, "", request.seed, request.id))

    def answers(self, requests: Sequence[Request]) -> Iterator[Sample]:
        """One sample a request, in any order."""
        with self._ready():
            yield from self.modality.generate(self.model, requests)

    @contextlib.contextmanager
    def _ready(self) -> Iterator[None]:
        """Evaluation mode, no gradients, adapter off where asked for; the training mode is put back."""
        import torch

        training = self.model.training
        off = self.modality.without_adapter(self.model) if self.adapter_off else contextlib.nullcontext()
        self.model.eval()
        try:
            with torch.no_grad(), off:
                yield
        finally:
            self.model.train(training)

    def _moved(self, examples: Sequence[Example]) -> Any:
        """The collated batch on the model's device, moved as Lightning moves it."""
        parameter = next(self.model.parameters(), None)
        batch = self.modality.collate(examples)
        if parameter is None or parameter.device.type == "cpu":
            return batch
        from lightning.pytorch.utilities import move_data_to_device

        return move_data_to_device(batch, parameter.device)


def _adapting(model: nn.Module) -> frozenset[str]:
    """Names of the weights that are the adapter's: those that train, and of a model that was loaded, those peft names so."""
    prefix = getattr(getattr(model, "base_model", None), "prefix", None)
    marks = (str(prefix), "modules_to_save.") if prefix and hasattr(model, "peft_config") else ()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return frozenset(trained | {name for name in model.state_dict() if any(f".{mark}" in name for mark in marks)})


def _configured(model: Any, adapter_off: bool = False) -> dict[str, Any]:
    """The model's own configuration, and its adapters' where they are on, as far as answers depend on it."""
    adapters = None if adapter_off else getattr(model, "peft_config", None)
    parts = {name: getattr(model, name, None) for name in ("config", "generation_config")}
    if isinstance(adapters, Mapping):
        parts |= {f"adapter {name}": one for name, one in adapters.items()}
    return {name: _answering(part.to_dict()) for name, part in parts.items() if part is not None and hasattr(part, "to_dict")}


def _answering(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what only says where it lies or how it was saved."""
    return {
        name: _answering(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if name not in _IDLE and not str(name).startswith("_") and value is not None
    }
