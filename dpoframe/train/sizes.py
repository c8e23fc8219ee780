"""Whether the numbers of pairs, of pairs a step and of ranks go together."""

from __future__ import annotations

from dpoframe.config.sections import TrainerSection
from dpoframe.data.loading import LoadedPairs
from dpoframe.errors import ConfigError, Fault
from dpoframe.train.lightning_trainer import make_trainer, quiet


def require_a_pair_each(section: TrainerSection, pairs: LoadedPairs) -> None:
    """Raises `ConfigError` where a rank would go without a pair, in a step or in the validation's first.

    A rank that fails alone leaves the others waiting, so this is asked of all of them, before weights are loaded. The number
    of ranks is Lightning's: a trainer is made for it, which is cheap and starts no process.
    """
    with quiet():
        ranks = make_trainer(section, 1, False, []).world_size
    held = len(pairs.validation)
    faults = []
    if section.batch_size < ranks:
        faults.append(Fault("trainer.batch_size", f"is {section.batch_size}.", f"Give {ranks} or more, or fewer devices."))
    if 0 < held < ranks:
        faults.append(Fault("data.validation", f"gives {counted(held)}.", f"Give {ranks} or more, or none, or fewer devices."))
    if faults:
        raise ConfigError(f"The run has {ranks} ranks, and each needs a pair:", faults)


def repetition(size: int, pairs: int) -> str:
    """What a person should know where a step of `size` pairs is larger than the training set; empty where it is not."""
    if size <= pairs:
        return ""
    least, most = size // pairs, -(-size // pairs)
    times = f"{most}" if least == most else f"{least} or {most}"
    return (
        f"trainer.batch_size is {size:,}, but the training set has {counted(pairs)}: a step holds each {times} times. "
        f"Lower trainer.batch_size to {pairs:,} or less, or give more pairs."
    )


def counted(pairs: int) -> str:
    """A number of pairs in words."""
    return "1 pair" if pairs == 1 else f"{pairs:,} pairs"
