"""Log-probabilities of labels, out of logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from dpoframe import Scores
from dpoframe_moderation.classifier.batch import LabelBatch

if TYPE_CHECKING:
    from torch import Tensor, nn


def logits_of(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """(T, C) logits of T texts, in float64 where the device has it."""
    called: Any = model
    logits: Tensor = called(**inputs).logits
    return logits.double() if logits.device.type != "mps" else logits.float()


def score_labels(model: nn.Module, batch: LabelBatch, multi: bool) -> Scores:
    """(N,) sums of the log-probabilities of each example's labels; every text goes through the model once."""
    chosen = logits_of(model, batch.inputs)[batch.text]
    picked = chosen.gather(1, batch.label[:, None])[:, 0]
    # Of several labels: log s(x) that a text has one, log s(-x) that it does not.
    signed = torch.where(batch.positive, picked, -picked)
    terms = functional.logsigmoid(signed) if multi else picked - chosen.logsumexp(1)
    value = terms.new_zeros(len(batch.length)).index_add(0, batch.example, terms)
    return Scores(value, batch.length)


def probabilities_of(model: nn.Module, inputs: dict[str, Tensor], multi: bool) -> Tensor:
    """(T, C) probability of each label."""
    logits = logits_of(model, inputs)
    return logits.sigmoid() if multi else logits.softmax(1)
