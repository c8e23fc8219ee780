"""A model under evaluation: scores responses and writes answers, and knows what it is."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from dpoframe.modality import Modality
from dpoframe.types import Example, Request, Sample, content_digest

if TYPE_CHECKING:
    from torch import nn

Progress: TypeAlias = Callable[[str, int, int], None]
"""`progress(stage, done, total)`, called after every batch of work."""

UNITS_A_BATCH = 2048
"""Units (tokens) scored at once; it bounds memory and never changes a figure beyond float rounding."""


def silent(stage: str, done: int, total: int) -> None:
    """The progress that nobody watches."""


@dataclass
class Subject:
    """A model with its modality.

    Attributes:
        name: What reports call it.
        modality: How it scores and writes.
        model: Its weights.
        adapter_off: Whether it stands for the model without its adapter, as before training.
    """

    name: str
    modality: Modality
    model: nn.Module
    adapter_off: bool = False
    _known: dict[str, tuple[float, float]] = field(default_factory=dict, repr=False)

    @cached_property
    def digest(self) -> str:
        """Digest of weights and of what else decides scores and answers, taken when first asked for."""
        import torch

        seen = hashlib.blake2b(json.dumps(self.modality.fingerprint(), sort_keys=True, default=str).encode(), digest_size=16)
        seen.update(f"{self.adapter_off} {torch.__version__}".encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            plain = tensor.detach().cpu().contiguous()
            seen.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
            seen.update(plain.reshape(-1).view(torch.uint8).numpy().data)
        return seen.hexdigest()

    def scores(self, examples: Sequence[Example], stage: str = "", progress: Progress = silent) -> list[tuple[float, float]]:
        """(score, length) of each example, in order. What was scored before is not scored again."""
        keys = [f"{content_digest(one.prompt, one.response)}/{one.seed}/{one.finished}" for one in examples]
        missing = {key: one for key, one in zip(keys, examples, strict=True) if key not in self._known}
        done = len(examples) - len(missing)
        with self._ready():
            for batch in _batches(list(missing.items()), self.modality):
                found = self.modality.score(self.model, self._moved([one for _, one in batch]))
                values = zip(found.value.double().tolist(), found.length.double().tolist(), strict=True)
                self._known.update(zip((key for key, _ in batch), values, strict=True))
                done += len(batch)
                progress(stage, done, len(examples))
        return [self._known[key] for key in keys]

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
        from lightning.pytorch.utilities import move_data_to_device

        parameter = next(self.model.parameters(), None)
        batch = self.modality.collate(examples)
        return batch if parameter is None else move_data_to_device(batch, parameter.device)


def _batches(items: list[tuple[str, Example]], modality: Modality) -> Iterator[list[tuple[str, Example]]]:
    """Batches of similar length within `UNITS_A_BATCH`; examples of one prompt stay side by side, so their prompt is shared."""
    sizes = {key: modality.measure(one) for key, one in items}
    items = sorted(items, key=lambda item: (sizes[item[0]].prompt, sizes[item[0]].prompt_digest, item[0]))
    batch: list[tuple[str, Example]] = []
    units = 0
    for key, one in items:
        size = sizes[key].prompt + sizes[key].response
        if batch and units + size > UNITS_A_BATCH:
            yield batch
            batch, units = [], 0
        batch.append((key, one))
        units += size
    if batch:
        yield batch
