"""Transformers that are loaded once a process, and run on texts in batches of about one length."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dpoframe_summarization.evaluators.local_model import LocalModel

_AT_ONCE = 16
_MOST_TOKENS = 512

Kind = Literal["encoder", "classifier"]


@dataclass(frozen=True)
class Loaded:
    """A model with its tokenizer, and the most tokens that it takes."""

    model: Any
    tokenizer: Any
    most: int

    def run(self, given: Sequence[Any], read: Any) -> list[Any]:
        """What `read(outputs, inputs)` makes of each text or pair of texts, in their order.

        Args:
            given: Texts, or pairs of texts.
            read: Gets a batch's outputs and its inputs; gives one item a row.
        """
        import torch

        made: list[Any] = [None] * len(given)
        for places in _batches([len(str(one)) for one in given]):
            inputs = self.tokenizer(
                [given[place] for place in places],
                padding=True,
                return_tensors="pt",
                max_length=self.most,
                truncation=True,
            ).to(self.model.device)
            with torch.inference_mode():
                found = read(self.model(**inputs), inputs)
            for place, one in zip(places, found, strict=True):
                made[place] = one
        return made


def loaded(model: LocalModel, kind: Kind) -> Loaded:
    """The model in memory, in float32; MissingModelError where it is not here."""
    return _loaded(model, kind, model.mark())


def _batches(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Places by falling size, some at a time: the longest batch, which may lack memory, comes first."""
    order = sorted(range(len(sizes)), key=lambda place: -sizes[place])
    for start in range(0, len(order), _AT_ONCE):
        yield order[start : start + _AT_ONCE]


@functools.lru_cache(maxsize=2)
def _loaded(model: LocalModel, kind: Kind, mark: str) -> Loaded:
    import torch
    import transformers

    made = transformers.AutoModel if kind == "encoder" else transformers.AutoModelForSequenceClassification
    folder = model.folder()
    where = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    with _quiet():
        network = made.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return Loaded(network.requires_grad_(False).eval().to(where), tokenizer, _most(network.config, tokenizer))


def _most(config: Any, tokenizer: Any) -> int:
    """The most tokens: RoBERTa's kin count positions from behind the padding's id."""
    positions = getattr(config, "max_position_embeddings", None) or _MOST_TOKENS
    if "roberta" in str(getattr(config, "model_type", "")):
        positions -= (config.pad_token_id or 0) + 1
    return int(min(positions, tokenizer.model_max_length, _MOST_TOKENS))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps progress bars and reports of loading from the command's output."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
