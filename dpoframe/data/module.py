"""The Lightning DataModule: training steps from the endless stream, validation once over all pairs in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from dpoframe.data.batching import StepBatch, StepDataset, steps_of_one_pass
from dpoframe.data.sampler import PairStream, StepSampler
from dpoframe.data.windowed_stream import WindowedStream
from dpoframe.data.windows import WindowReader
from dpoframe.modality import Modality
from dpoframe.types import PreferencePair


def one_thread(_: int) -> None:
    """Start of a data-loading worker: it shares the machine with the training process."""
    torch.set_num_threads(1)


class PairDataModule(lightning.LightningDataModule):
    """Feeds steps of preference pairs.

    Args:
        modality: What measures and collates.
        pairs: Training pairs, or what reads them window by window.
        validation: Validation pairs; may be empty.
        steps: Optimizer steps of the whole run.
        seed: The run's seed.
        batch_size: Pairs an optimizer step, over all ranks.
        tokens_per_batch: Cap of units a micro-batch.
        accumulate: Least number of micro-batches of a rank's share.
        bucket: Whether steps hold pairs of about one length.
        mismatched: Whether a loss wants mismatched examples.
        bank: How many seeds a pair has; None for a new one each epoch.
        workers: Data-loading processes.
    """

    def __init__(
        self,
        modality: Modality,
        pairs: Sequence[PreferencePair] | WindowReader,
        validation: Sequence[PreferencePair] = (),
        *,
        steps: int,
        seed: int = 0,
        batch_size: int = 8,
        tokens_per_batch: int | None = None,
        accumulate: int = 1,
        bucket: bool = True,
        mismatched: bool = False,
        bank: int | None = None,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.steps, self.workers = steps, workers

        def dataset(stream: PairStream | WindowedStream) -> StepDataset:
            return StepDataset(stream, modality, tokens_per_batch, accumulate, mismatched, bank)

        kind = WindowedStream if isinstance(pairs, WindowReader) else PairStream
        self.train = dataset(kind(pairs, batch_size, seed, bucket))  # type: ignore[arg-type]
        self.validation = dataset(PairStream(validation, batch_size, seed, shuffle=False)) if validation else None

    def datasets(self) -> list[tuple[StepDataset, int]]:
        """Each data set of the run with the number of its steps."""
        both = [(self.train, self.steps)]
        return [*both, (self.validation, steps_of_one_pass(self.validation.stream))] if self.validation else both

    def setup(self, stage: str) -> None:
        """Tells the data sets which ranks there are."""
        if self.trainer is not None:
            for dataset, _ in self.datasets():
                dataset.rank, dataset.world = self.trainer.global_rank, self.trainer.world_size

    def train_dataloader(self) -> DataLoader[StepBatch]:
        """The steps still to do: after a resume, from the step at which the run was saved."""
        done = self.trainer.global_step if self.trainer is not None else 0
        return self.loader(self.train, StepSampler(done, self.steps))

    def val_dataloader(self) -> DataLoader[StepBatch] | list[Any]:
        """All validation pairs once, in their order."""
        if self.validation is None:
            return []
        return self.loader(self.validation, StepSampler(0, steps_of_one_pass(self.validation.stream)))

    def loader(self, dataset: StepDataset, sampler: StepSampler) -> DataLoader[StepBatch]:
        """A loader whose workers' randomness is its own: torch's global generator is not drawn from."""
        keep: dict[str, Any] = {"persistent_workers": True, "worker_init_fn": one_thread} if self.workers else {}
        pin = torch.cuda.is_available()
        return DataLoader(
            dataset,  # type: ignore[arg-type]
            batch_size=None,
            sampler=sampler,
            num_workers=self.workers,
            collate_fn=unchanged,  # type: ignore[arg-type]
            generator=torch.Generator(),
            pin_memory=pin,
            **keep,
        )


def unchanged(batch: StepBatch) -> StepBatch:
    """The data set collates; the loader passes on."""
    return batch
