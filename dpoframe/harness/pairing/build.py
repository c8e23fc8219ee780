"""From stored answers to preference pairs: what `dpoframe data build` does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpoframe.checkpoint.durable import replaceable
from dpoframe.errors import ConfigError, DataError
from dpoframe.harness.pairing.candidates import Gathered, gather
from dpoframe.harness.pairing.choosing import LONE, TIED, UNMET, Chosen, Rule
from dpoframe.harness.pairing.judging import forget, judge
from dpoframe.harness.pairing.rows import PairFile
from dpoframe.harness.pairing.sampling import Drawing, Sampling, apart, prepared
from dpoframe.harness.pairing.scored import Better, Measure, Verdicts, measure_of, named_evaluator
from dpoframe.harness.sharding import Ranks, launched
from dpoframe.harness.subject import Progress, silent

if TYPE_CHECKING:
    from dpoframe.plugins import PluginHost


@dataclass(frozen=True)
class Built:
    """What was made, and of what.

    Attributes:
        out: The file of pairs.
        pairs: Pairs written.
        prompts: Prompts that gave one or more.
        asked: Prompts found.
        answers: Answers found.
        repeated: Answers that had occurred for their prompt, left out.
        unscored: Answers that the evaluator gave no score, left out, by the reason.
        tied: Pairs left out because the one answer is not better than the other by more than the margin.
        alone: Prompts without two answers that could be compared.
        unmet: Prompts without an answer that passed, or without one that failed, where the mode asks for both.
        refused: Rows that hold no answer, by code.
        first_refused: The first of them in words.
        evaluator: Id of the evaluator.
        version: Its version.
        metric: What decided.
        better: Which way is better.
        sampled: The folder that holds the answers that were sampled, a source of stored answers from now on.
    """

    out: Path
    pairs: int
    prompts: int
    asked: int
    answers: int
    repeated: int
    unscored: dict[str, int]
    tied: int
    alone: int
    unmet: int
    refused: dict[str, int]
    first_refused: str
    evaluator: str
    version: str
    metric: str
    better: str
    sampled: Path | None = None

    def lines(self) -> list[str]:
        """The result for a person."""
        unscored = sum(self.unscored.values())
        left = {
            f"{self.repeated:,} answers repeated another": self.repeated,
            f"{unscored:,} answers were not scored ({_most(self.unscored)})": unscored,
            f"{self.tied:,} pairs did not differ by more than the margin": self.tied,
            f"{self.alone:,} prompts had no two answers to compare": self.alone,
            f"{self.unmet:,} prompts had no answer that passed beside one that failed": self.unmet,
            f"{sum(self.refused.values()):,} rows held no answer ({self.first_refused})": sum(self.refused.values()),
        }
        decided = self.metric if self.metric == self.evaluator else f"{self.metric} of {self.evaluator}"
        head = f"{_many(self.pairs, 'pair')} of {_many(self.prompts, 'prompt')} written to {self.out}, by {decided}."
        total = f"Out of {self.answers:,} answers to {self.asked:,} prompts:"
        told = [f"  {line}" for line, count in left.items() if count]
        kept = [f"The sampled answers are in {self.sampled}."] if self.sampled is not None else []
        return [head, *kept, total, *told] if told else [head, *kept]


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


@dataclass(frozen=True)
class Wanted:
    """How pairs are to be made; the fields that are no `Rule`'s own are described at `build_pairs`."""

    rule: Rule = field(default_factory=Rule)
    reference: str = "reference"
    response: str = "response"
    metric: str | None = None
    better: Better | None = None
    failed_at: float | None = None
    media: str | None = None
    copy: bool = True


def build_pairs(
    sources: Sequence[str | Path],
    out: str | Path,
    evaluator: str,
    *,
    changes: Sequence[str] = (),
    wanted: Wanted | None = None,
    sampling: Sampling | None = None,
    devices: int = 1,
    plugins: PluginHost | None = None,
    progress: Progress = silent,
) -> Built | None:
    """Pairs answers to the same prompt by an evaluator's scores and writes them as JSON Lines, which a recipe reads.

    Answers are stored ones, or sampled from a model, or both. Whatever is wrong with what was asked for is found before any
    weights are read. A call that was cut off goes on where it stood: verdicts are kept with the sampled answers, or where none
    are sampled in a folder beside `out` that is removed once the pairs are written.

    A row has `prompt`, `chosen`, `rejected` and the evidence: `score_chosen` and `score_rejected` (higher is better: of a
    metric that is better low they are the metric's negative), `evaluator`, `evaluator_version`, `metric`, `better`,
    everything that the evaluator gave for either answer (`chosen_NAME`, `rejected_NAME`), and where each is from. Readers
    keep these in the pair's `meta`.

    Args:
        sources: Folders of evaluations, and files of rows with `prompt` and `response` or `responses`; may be empty where
            answers are sampled.
        out: The file to write, whole or not at all.
        evaluator: Name of an evaluator that scores answers, or `./mine.py:Class`.
        changes: The evaluator's keys, `key=value`; with `sampling` also `generation.key=value`, `modality.key=value` and, of a
            suite, `prompts.key=value`.
        wanted: What decides, and how pairs are chosen. `reference`: where a row holds its right answer. `response`: where a
            row of a file holds the model's. `metric`: one that the evaluator gives a sample, its primary where None.
            `better`: which way, where the metric's scale does not say. `failed_at`: for the mode `failed`, the value at which
            an answer has failed, and beyond it; the bad end of the scale where None. `media`: the kind of file that texts in
            the rows name. `copy`: whether files are copied beside `out`.
        sampling: Which answers are sampled from which model; the folder they stay in is named after `out` unless given.
        devices: Processes that share sampling and scoring, each with the whole model and evaluator, on a GPU of its own where
            there are any. Answers and pairs do not depend on their number.
        plugins: Where evaluators are; the installed ones unless given.
        progress: Told of every answer of the first process's share that is sampled and scored, as the stages `generate` and
            `score`.

    Returns:
        What was made; None in every process but the first of several, which alone pairs and writes.

    Raises:
        CheckpointError: there is no such model to sample from.
        ConfigError: an option, the evaluator's name or a key of it is wrong, or the model does not take the settings.
        DataError: a source cannot be read, or no pair comes out; the message says what became of the answers.
        MachineError: the evaluator cannot run here, or the file cannot be written.
    """
    from dpoframe.plugins import host

    how, place, known = wanted or Wanted(), Path(out), plugins or host()
    if place.suffix not in (".jsonl", ".json", ".ndjson"):
        raise ConfigError(f"--out is {out}; pairs are written as JSON Lines: give it a name that ends in .jsonl.")
    replaceable(place)
    settings, rest = apart(changes) if sampling is not None else ([], changes)
    measure = measure_of(named_evaluator(evaluator, rest, known), how.metric, how.better)
    rule = _settled(how, measure)
    stored = [Path(source).expanduser() for source in sources]
    drawing = _drawing(sampling, place, settings, how, measure, stored, known)
    beside = place.with_suffix(".verdicts")
    with launched(devices) as (ranks, device):
        told = progress if ranks.first else silent
        if stored and drawing is not None and ranks.first:
            gather(stored, how.media, response=how.response)  # a source that is wrong is told before a model writes anything
        drawn = [drawing.draw(told, ranks, device)] if drawing is not None else []
        found = _gathered([*stored, *drawn], how, rule, measure, ranks)
        verdicts, counts = judge(found, measure, drawn[0] if drawn else beside, told, ranks), Counter[str]()
    if not ranks.first:
        return None
    chosen = [rule.pairs(scored, counts) for scored in verdicts.prompts.values()]
    built = _told(place, found, verdicts, chosen, counts, measure, drawn)
    if not built.pairs:
        raise DataError("\n".join([f"No pair comes out, so {place} is not written.", *built.lines()[1:]]))
    PairFile(place, measure, how.copy).write(pair for some in chosen for pair in some)
    forget(beside)
    return built


def _gathered(sources: Sequence[Path], how: Wanted, rule: Rule, measure: Measure, ranks: Ranks) -> Gathered:
    """The candidates. The first process reads before the others do, so that what is wrong with a source is told once."""
    reference, together = how.reference if rule.from_reference else "", measure.evaluator.batch_size()
    if not ranks.first:
        ranks.wait()
    found = gather(sources, how.media, reference, how.response, ranks=ranks, together=together)
    if ranks.first:
        ranks.wait()
    return found


def _drawing(
    sampling: Sampling | None,
    out: Path,
    settings: Sequence[str],
    how: Wanted,
    measure: Measure,
    stored: Sequence[Path],
    plugins: PluginHost,
) -> Drawing | None:
    """What is to be sampled, checked; None where nothing is. ConfigError where no pair could come of it."""
    if sampling is None:
        if not stored:
            raise ConfigError("No answers are named. Give a SOURCE, or sample some: --model MODEL --prompts FILE.")
        return None
    if how.media is not None and not stored:
        raise ConfigError("--media says what the paths in a SOURCE are, and no SOURCE is given. Leave it out.")
    if (needs := measure.evaluator.spec.needs) in ("base_logp", "logratio"):
        raise ConfigError(f"The evaluator {measure.evaluator.spec.id} needs {needs}, which sampled answers do not come with.")
    folder, reference = sampling.folder or out.with_suffix(".answers"), how.reference if how.rule.from_reference else ""
    if folder.resolve() in [source.resolve() for source in stored]:
        raise ConfigError(
            f"{folder} is a SOURCE, and where sampled answers go: they are read from there anyway. Leave the SOURCE out."
        )
    made = prepared(replace(sampling, folder=folder, reference=reference), settings, plugins, alone=not stored)
    if made.suite.samples < 2 and not stored and not how.rule.from_reference:
        raise ConfigError("--samples is 1, and one answer a prompt makes no pair. Say --samples 8, or --from-reference.")
    return made


def _settled(how: Wanted, measure: Measure) -> Rule:
    """The rule with the point at which an answer has failed; ConfigError where an option is out of range or has no meaning."""
    rule = how.rule
    if not (math.isfinite(rule.margin) and rule.margin >= 0):
        raise ConfigError(f"--margin is {rule.margin}; it must be a number of at least 0.")
    if rule.per_prompt is not None and rule.per_prompt < 1:
        raise ConfigError(f"--per-prompt is {rule.per_prompt}; it must be at least 1.")
    if rule.mode != "failed":
        if how.failed_at is not None:
            raise ConfigError("--failed-at belongs to --mode failed.")
        return rule
    end = measure.worst if how.failed_at is None else measure.oriented(how.failed_at)
    if end is None:
        raise ConfigError(
            f"The metric {measure.name} has no worst value, so that no answer is known to have failed. Say from which value on "
            "with --failed-at."
        )
    return replace(rule, failed_at=end)


def _told(
    out: Path,
    found: Gathered,
    verdicts: Verdicts,
    chosen: Sequence[Sequence[Chosen]],
    counts: Counter[str],
    measure: Measure,
    drawn: Sequence[Path],
) -> Built:
    spec = measure.evaluator.spec
    return Built(
        out=out,
        pairs=sum(map(len, chosen)),
        prompts=sum(map(bool, chosen)),
        asked=len(found.prompts),
        answers=found.rows,
        repeated=found.repeated,
        unscored=dict(verdicts.unscored.most_common()),
        tied=counts[TIED],
        alone=counts[LONE] + len(found.prompts) - len(verdicts.prompts),
        unmet=counts[UNMET],
        refused=dict(found.refused.most_common()),
        first_refused=found.first,
        evaluator=spec.id,
        version=spec.version,
        metric=measure.name,
        better=measure.better,
        sampled=drawn[0] if drawn else None,
    )


def _most(reasons: dict[str, int]) -> str:
    """The reason given most often, cut to a line."""
    return " ".join(next(iter(reasons), "").split())[:160]
