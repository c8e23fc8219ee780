"""Writing answers: batched by length, each drawn from its request's own seed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from dpoframe import MachineError, Request, Sample, generator
from dpoframe_text.adapters import merged
from dpoframe_text.decoding import can_drop_rows, write
from dpoframe_text.quiet import quiet
from dpoframe_text.settings import GenerationSettings
from dpoframe_text.tokens import Encoder, Ids

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Job:
    """A request in tokens."""

    request: Request
    prompt: Ids
    settings: GenerationSettings


def generate(model: nn.Module, encoder: Encoder, requests: Sequence[Request], batch_size: int) -> Iterator[Sample]:
    """One sample a request, shortest prompts first.

    A sample depends on its own request alone, up to rounding: rows of a batch differ in the order of float sums.
    The model is in evaluation mode meanwhile, with its adapters merged, and as it was when the iterator ends.
    """
    settings = [GenerationSettings.read(request.settings) for request in requests]
    prompts = encoder.prompts([request.prompt for request in requests])
    jobs = [Job(*parts) for parts in zip(requests, prompts, settings, strict=True)]
    jobs.sort(key=lambda job: (repr(job.settings), len(job.prompt)))
    with _evaluating(model), merged(model):
        for batch in _batches(jobs, batch_size):
            yield from _halving(model, encoder, batch)


def _batches(jobs: Sequence[Job], size: int) -> Iterator[list[Job]]:
    """Runs of jobs with the same settings, of at most `size`."""
    batch: list[Job] = []
    for job in jobs:
        if batch and (len(batch) == size or batch[0].settings != job.settings):
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def _halving(model: nn.Module, encoder: Encoder, jobs: Sequence[Job]) -> list[Sample]:
    """The samples of a batch; where memory does not suffice, of its halves."""
    try:
        return _samples(model, encoder, jobs)
    except (RuntimeError, MemoryError) as error:
        if not _out_of_memory(error):
            raise
        if len(jobs) == 1:
            raise MachineError(
                f"There is not enough memory to write one answer of {jobs[0].settings.max_new_tokens} tokens after a prompt of "
                f"{len(jobs[0].prompt)}. Lower max_new_tokens or max_length, or take a smaller model or a larger machine."
            ) from error
    # Outside the handler: the exception holds on to the tensors of the failed attempt.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(jobs) // 2
    return [*_halving(model, encoder, jobs[:half]), *_halving(model, encoder, jobs[half:])]


def _out_of_memory(error: Exception) -> bool:
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "not enough memory" in str(error) or "can't allocate memory" in str(error)


def _samples(model: Any, encoder: Encoder, jobs: Sequence[Job]) -> list[Sample]:
    settings = jobs[0].settings
    ends = _end_ids(model, encoder)
    pad = _pad_id(encoder, ends)
    width = max(len(job.prompt) for job in jobs)
    device = next(model.parameters()).device
    ids = torch.tensor([[pad] * (width - len(job.prompt)) + list(job.prompt) for job in jobs], device=device)
    mask = torch.tensor([[0] * (width - len(job.prompt)) + [1] * len(job.prompt) for job in jobs], device=device)
    processors = _processors(settings, mask, [job.request.seed for job in jobs])
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    with torch.no_grad(), quiet():
        if can_drop_rows(base):
            rows = write(base, ids, mask, settings.max_new_tokens, _chooser(processors), _ender(encoder, settings.stop, ends))
        else:
            stop = StoppingCriteriaList([_StopStrings(encoder, settings.stop, width)] if settings.stop else [])
            config = _config(settings, ends, pad)
            written = model.generate(
                input_ids=ids, attention_mask=mask, generation_config=config, logits_processor=processors, stopping_criteria=stop
            )
            rows = written[:, width:].tolist()
    return [_sample(encoder, job, row, ends) for job, row in zip(jobs, rows, strict=True)]


def _chooser(processors: LogitsProcessorList) -> Callable[[Tensor, Tensor, Sequence[int]], Tensor]:
    """The likeliest token after the processors; those that know rows are told which rows are left."""

    def choose(ids: Tensor, logits: Tensor, rows: Sequence[int]) -> Tensor:
        for processor in processors:
            if isinstance(processor, _RowNoise | _WithoutPadding):
                processor.rows = list(rows)
        scored: Tensor = processors(ids, logits)  # type: ignore[arg-type]  # every integer tensor of ids is a LongTensor
        return scored.argmax(-1)

    return choose


def _ender(encoder: Encoder, stop: Sequence[str], ends: Sequence[int]) -> Callable[[Sequence[int]], bool]:
    """Whether an answer is complete: by an end token, or by a stop string in its last tokens."""
    tail = _tail(stop)
    return lambda row: row[-1] in ends or (bool(stop) and _first_stop(encoder.decode((), row[-tail:]), stop) is not None)


def _tail(stop: Sequence[str]) -> int:
    """How many tokens to look at: a stop string is at most as many tokens as bytes; what was seen before is known."""
    return max((len(text.encode()) for text in stop), default=0) + 1


def _sample(encoder: Encoder, job: Job, row: Sequence[int], ends: Sequence[int]) -> Sample:
    at = next((place for place, token in enumerate(row) if token in ends), None)
    text = encoder.decode(job.prompt, row if at is None else row[:at])
    stopped = _first_stop(text, job.settings.stop)
    length = len(row) if at is None else at + 1
    if stopped is not None:
        text, length = text[:stopped], _length_until(encoder, job, row, stopped)
    if encoder.conversation.uses_template(job.request.prompt):
        text = text.strip()
    return Sample(job.request.id, job.request.prompt, text, at is not None or stopped is not None, {"length": float(length)})


def _first_stop(text: str, stop: Iterable[str]) -> int | None:
    """Where the first stop string begins."""
    return min((place for place in map(text.find, stop) if place >= 0), default=None)


def _length_until(encoder: Encoder, job: Job, row: Sequence[int], end: int) -> int:
    """Tokens that were needed to write `end` characters."""
    return next((n for n in range(len(row)) if len(encoder.decode(job.prompt, row[:n])) >= end), len(row))


def _config(settings: GenerationSettings, ends: Sequence[int], pad: int) -> GenerationConfig:
    # Every switch that a model's own defaults might set is named: a suite's figures must not depend on them.
    return GenerationConfig(
        max_new_tokens=settings.max_new_tokens,
        eos_token_id=list(ends) or None,
        pad_token_id=pad,
        use_cache=True,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        temperature=1.0,
        top_k=50,
        top_p=1.0,
    )


def _end_ids(model: Any, encoder: Encoder) -> list[int]:
    """The tokens that end an answer, by the model's own word and by the tokenizer's."""
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return sorted({*encoder.end_ids, *([own] if isinstance(own, int) else own or [])})


def _pad_id(encoder: Encoder, ends: Sequence[int]) -> int:
    """Any token does: padding is masked on the left and cut on the right."""
    pad = encoder.tokenizer.pad_token_id
    return int(pad) if pad is not None else (ends[0] if ends else 0)


def _processors(settings: GenerationSettings, mask: Tensor, seeds: Sequence[int]) -> LogitsProcessorList:
    from transformers import (
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    chain: list[Any] = []
    if settings.repetition_penalty != 1:
        chain.append(_WithoutPadding(RepetitionPenaltyLogitsProcessor(float(settings.repetition_penalty)), mask))
    if settings.samples:
        if settings.temperature not in (0, 1):
            chain.append(TemperatureLogitsWarper(float(settings.temperature)))
        if settings.top_k:
            chain.append(TopKLogitsWarper(settings.top_k))
        if settings.top_p < 1:
            chain.append(TopPLogitsWarper(float(settings.top_p)))
        chain.append(_RowNoise(seeds))
    return LogitsProcessorList(chain)


class _RowNoise(LogitsProcessor):
    """Adds Gumbel noise from a generator of each row: the largest sum is then a draw from the softmax.

    So the draw of a row does not depend on what else is in the batch.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [generator(seed) for seed in seeds]
        self.rows = list(range(len(seeds)))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        uniform = [
            torch.rand(scores.shape[1], generator=one, dtype=torch.float64) for one in (self.generators[row] for row in self.rows)
        ]
        noise = -torch.log(-torch.log(torch.stack(uniform).clamp_min(1e-300)))
        return scores.float() + noise.to(scores.device, torch.float32)


class _WithoutPadding(LogitsProcessor):
    """Hides padding from a processor that looks at the tokens so far, by repeating the row's last token in its place."""

    def __init__(self, inner: Any, mask: Tensor) -> None:
        self.inner, self.padding, self.rows = inner, mask == 0, list(range(len(mask)))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        seen = input_ids.clone()
        padding = self.padding[self.rows]
        head = seen[:, : padding.shape[1]]
        head[padding] = seen[:, -1:].expand_as(head)[padding]
        penalised: Tensor = self.inner(seen, scores)
        return penalised


class _StopStrings(StoppingCriteria):
    """Ends a row when its answer holds a stop string."""

    def __init__(self, encoder: Encoder, stop: Sequence[str], width: int) -> None:
        self.encoder, self.stop, self.width, self.tail = encoder, stop, width, _tail(stop)

    def __call__(self, input_ids: Tensor, scores: Any, **unused: Any) -> Tensor:
        rows = input_ids[:, max(self.width, input_ids.shape[1] - self.tail) :].tolist()
        done = [_first_stop(self.encoder.decode((), row), self.stop) is not None for row in rows]
        return torch.tensor(done, device=input_ids.device)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, which also rests gradient checkpointing; every part's own mode afterwards."""
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
