"""A whole modality in miniature: a language model of single characters that runs in milliseconds.

Tests of dpoframe and of plugins use it where any model will do. It learns: after a few steps on `toy_pairs` it prefers
vowels. `dpoframe_modalities` is implemented here too, so this module is a plugin that a test can register.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dpoframe import Example, Loss, Modality, PairScores, PreferencePair, Request, Sample, Scores, as_text, generator, hookimpl

ALPHABET = "abcdefghijklmnopqrstuvwxyz .\n"
END = ALPHABET.index("\n")


class ToyNetwork(nn.Module):
    """Predicts the next character from the one before and the characters of the prompt; dropout where asked for.

    With `adapter` the base is frozen and only a low-rank correction, zero at first, is trained.
    """

    def __init__(self, width: int, dropout: float, adapter: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(ALPHABET), width)
        self.head = nn.Linear(width, len(ALPHABET))
        self.dropout = nn.Dropout(dropout)
        self.adapter = nn.Linear(width, len(ALPHABET), bias=False) if adapter else None
        self.adapter_on = True
        if self.adapter is not None:
            self.embedding.requires_grad_(False)
            self.head.requires_grad_(False)
            nn.init.zeros_(self.adapter.weight)

    def forward(self, before: Tensor, prompt: Tensor) -> Tensor:
        """Logits (N, T, V) from the characters before (N, T) and the prompt's shares of characters (N, V)."""
        context = prompt @ self.embedding.weight
        hidden = self.dropout(torch.tanh(self.embedding(before) + context[:, None]))
        logits: Tensor = self.head(hidden)
        return logits + self.adapter(hidden) if self.adapter is not None and self.adapter_on else logits

    @contextlib.contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Context in which the model answers as it did before training, as peft's models have it."""
        self.adapter_on = False
        try:
            yield
        finally:
            self.adapter_on = True


def encode(text: str) -> list[int]:
    """Numbers of the characters, lower-cased; what is not in the alphabet becomes a full stop."""
    return [ALPHABET.index(letter) if letter in ALPHABET else ALPHABET.index(".") for letter in text.lower()]


@dataclass(frozen=True)
class ToyModality(Modality):
    """Characters. Fields: width of the network, dropout, whether it trains an adapter, seed of its first weights."""

    width: int = 8
    dropout: float = 0.0
    adapter: bool = False
    init_seed: int = 0
    details: tuple[str, ...] = ()

    provides: ClassVar[frozenset[str]] = frozenset({"entropy"})

    def build(self) -> nn.Module:
        """A fresh network; the global random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.init_seed)
            return ToyNetwork(self.width, self.dropout, self.adapter)

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """`target` (N, T), -1 after the end; `before` (N, T); `prompt` (N, V) shares of the characters."""
        rows = [[*encode(as_text(example.response)), END] for example in examples]
        target = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=-1)
        before = torch.cat([torch.full((len(rows), 1), END), target[:, :-1].clamp(min=0)], dim=1)
        prompts = [torch.tensor([END, *encode(as_text(example.prompt))]) for example in examples]
        counts = torch.stack([prompt.bincount(minlength=len(ALPHABET)) for prompt in prompts]).float()
        return {"target": target, "before": before, "prompt": counts / counts.sum(1, keepdim=True)}

    def score(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Scores:
        """Log-probability of each response, summed over its characters and its end."""
        known = batch["target"] >= 0
        log_p = model(batch["before"], batch["prompt"]).log_softmax(-1)
        value = log_p.gather(-1, batch["target"].clamp(min=0)[..., None])[..., 0]
        entropy = -(log_p.exp() * log_p).sum(-1)
        detail = {"entropy": (entropy * known).sum(1)} if "entropy" in self.details else {}
        return Scores((value * known).sum(1), known.sum(1), detail)

    def with_details(self, names: frozenset[str]) -> Modality:
        """`entropy`: entropy of the predictions in nats, summed over the response."""
        return replace(super().with_details(names), details=tuple(sorted(names)))  # type: ignore[call-arg]

    @torch.no_grad()
    def generate(self, model: nn.Module, requests: Sequence[Request]) -> Iterator[Sample]:
        """Writes character by character. Settings: `max_new_tokens` (12), `temperature` (1.0; 0 takes the likeliest)."""
        for request in requests:
            limit, temperature = request.settings.get("max_new_tokens", 12), request.settings.get("temperature", 1.0)
            batch, noise, written = self.collate([Example(request.prompt, "", 0, request.id)]), generator(request.seed), [END]
            while len(written) <= limit and (len(written) == 1 or written[-1] != END):
                logits = model(torch.tensor([written[-1:]]), batch["prompt"])[0, 0]
                shares = (logits / temperature).softmax(-1) if temperature else (logits == logits.max()).float()
                written.append(int(torch.multinomial(shares, 1, generator=noise)))
            text = "".join(ALPHABET[number] for number in written[1:] if number != END)
            yield Sample(request.id, request.prompt, text, written[-1] == END, {"length": float(len(written) - 1)})


@dataclass(frozen=True)
class ToyLoss(Loss):
    """The hinge of the plain margin: max(0, margin - (log-ratio of chosen - log-ratio of rejected))."""

    margin: float = 1.0

    def __call__(self, scores: PairScores) -> Tensor:
        """(B,) losses."""
        return torch.relu(self.margin - (scores.chosen_logratio - scores.rejected_logratio))


def toy_pairs(count: int = 32, seed: int = 0) -> list[PreferencePair]:
    """`count` pairs whose chosen response is mostly vowels and whose rejected one has none; every prompt occurs twice."""
    draw = random.Random(seed)

    def word(letters: str) -> str:
        return "".join(draw.choice(letters) for _ in range(draw.randint(3, 8)))

    prompts = [f"say {word('bcdfgaeiou')} {number // 26}{chr(97 + number % 26)}" for number in range((count + 1) // 2)]
    return [PreferencePair(prompts[number // 2], word("aeioun"), word("bcdfgklm"), f"toy-{number}") for number in range(count)]


def toy_dataset(count: int = 32, seed: int = 0) -> list[PreferencePair]:
    """`toy_pairs` as a data set a recipe can name: `data: {name: toy, count: 32}`."""
    return toy_pairs(count, seed)


@hookimpl
def dpoframe_modalities() -> Mapping[str, Any]:
    """The toy modality, by the name `toy`."""
    return {"toy": ToyModality}


@hookimpl
def dpoframe_datasets() -> Mapping[str, Any]:
    """The toy pairs, by the name `toy`."""
    return {"toy": toy_dataset}
