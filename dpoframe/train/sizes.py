"""Whether the numbers of pairs, of pairs a step and of ranks go together."""

from __future__ import annotations

from dpoframe.config.recipe import Recipe
from dpoframe.config.sections import TrainerSection
from dpoframe.data.loading import LoadedPairs
from dpoframe.data.windowed_pairs import WindowedPairs
from dpoframe.errors import ConfigError, Fault
from dpoframe.train.lightning_trainer import make_trainer, quiet
from dpoframe.train.schedule import total_steps


def require_a_pair_each(section: TrainerSection, pairs: LoadedPairs | WindowedPairs) -> None:
    """Raises `ConfigError` where a rank would go without a pair, in a step or in the validation's first.

    A rank that fails alone leaves the others waiting, so this is asked of all of them, before weights are loaded. The number
    of ranks is Lightning's: a trainer is made for it, which is cheap and starts no process.
    """
    with quiet():
        ranks = make_trainer(section, 1, False, []).world_size
    require_pairs_for(ranks, section, len(pairs.validation))


def require_pairs_for(ranks: int, section: TrainerSection, held: int) -> None:
    """Raises `ConfigError` where a step, or the `held` validation pairs if there are any, are fewer than the ranks."""
    faults = []
    if section.batch_size < ranks:
        faults.append(Fault("trainer.batch_size", f"is {section.batch_size}.", f"Give {ranks} or more, or fewer devices."))
    if 0 < held < ranks:
        faults.append(Fault("data.validation", f"gives {counted(held)}.", f"Give {ranks} or more, or none, or fewer devices."))
    if faults:
        raise ConfigError(f"The run has {ranks} ranks, and each needs a pair:", faults)


def cautions(recipe: Recipe, pairs: int | None) -> list[str]:
    """What a person should know of a run over so many pairs."""
    if pairs is None:
        return []
    return [*filter(None, [repetition(recipe.trainer.batch_size, pairs), moved_work(recipe, pairs)])]


def moved_work(recipe: Recipe, pairs: int) -> str:
    """What a person should know where cached scores are each used once; empty where they are used again."""
    section, modality = recipe.trainer, recipe.modality.value
    if recipe.reference.kind != "cached" or not modality.stochastic:
        return ""
    epochs = total_steps(section, pairs) * section.batch_size / pairs
    if section.seeds_per_pair is not None and section.seeds_per_pair < epochs:
        return ""
    return (
        f"reference.kind is 'cached', but scores of the modality {recipe.modality.name} depend on a pair's seed, and no seed comes "
        f"twice in the {epochs:.3g} epochs of this run: each cached score is used once, so that the work is moved, not saved. Set "
        "trainer.seeds_per_pair to less than the number of epochs, or take reference kind copy or adapter. (A second run with "
        "the same seed and weights finds the scores of the first.)"
    )


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
