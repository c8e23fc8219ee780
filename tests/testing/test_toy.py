"""The toy can be trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dpoframe import Example, PreferencePair
from dpoframe.testing import ToyModality, toy_pairs


def test_toy_learns() -> None:
    """Some steps of DPO on the toy pairs raise the accuracy of pairs it never saw."""
    modality, seen, unseen = ToyModality(), toy_pairs(32), toy_pairs(32, seed=5)
    model = modality.build()

    def margins(pairs: list[PreferencePair]) -> Tensor:
        examples = [
            Example(pair.prompt, text, 0, pair.id)
            for side in ("chosen", "rejected")
            for pair in pairs
            if (text := getattr(pair, side))
        ]
        chosen, rejected = modality.score(model, modality.collate(examples)).value.chunk(2)
        return chosen - rejected

    start, before = margins(seen).detach(), margins(unseen).detach()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(30):
        optimizer.zero_grad()
        torch.autograd.backward(-nn.functional.logsigmoid(0.1 * (margins(seen) - start)).mean())
        optimizer.step()
    assert (margins(unseen) - before > 0).float().mean() > 0.9
