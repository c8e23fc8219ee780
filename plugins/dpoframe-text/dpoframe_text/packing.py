"""Laying the token ids of a batch into one flat row, every prompt once, with the responses that share it behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class TokenPair(Protocol):
    """Token ids of a prompt and of one response to it (`Encoded` is one)."""

    @property
    def prompt(self) -> tuple[int, ...]:
        """Ids of the prompt."""

    @property
    def response(self) -> tuple[int, ...]:
        """Ids of the response, with its end token where it ends."""


class Branch(NamedTuple):
    """The part of one response in the row: `length` inputs from `start`; the last response token is never an input."""

    example: int
    start: int
    length: int


class Tree(NamedTuple):
    """A prompt of `length` tokens at `start` of the flat row, and the responses to it.

    No dataclass: Lightning walks through a batch to convert it to half precision, and refuses frozen ones.
    """

    start: int
    length: int
    branches: tuple[Branch, ...]


@dataclass
class PackedBatch:
    """N examples as the model reads them.

    T is the number of inputs of the flat row, H the number of scored response tokens. Rows are ordered so that the two
    examples of a pair are neighbours.

    Attributes:
        input_ids: (1, T) where `packed`, else (N, L) padded on the right.
        position_ids: Same shape; they restart after the prompt for every response.
        attention_mask: (N, L) of 0 and 1 where not packed, else None.
        rows: (H,) index into the flattened inputs of the position that predicts each scored token.
        targets: (H,) the token it should predict.
        example: (H,) the example it belongs to.
        lengths: (N,) scored tokens of each example.
        partner: (N,) the other example of the pair, or -1.
        spans: `(example, first row, past last row)`, in row order.
        trees: Layout of the flat row; one tree an example where not packed.
        packed: Whether the inputs are one flat row.
        differs: (H,) whether the scored token is one in which the responses of its pair differ; None where nobody asks.
    """

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor | None
    rows: Tensor
    targets: Tensor
    example: Tensor
    lengths: Tensor
    partner: Tensor
    spans: tuple[tuple[int, int, int], ...]
    trees: tuple[Tree, ...]
    packed: bool
    differs: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PackedBatch:
        """A copy whose tensors lie on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PackedBatch:
        """A copy in page-locked memory."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change) -> PackedBatch:  # type: ignore[no-untyped-def]
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return PackedBatch(**{name: change(value) if isinstance(value, Tensor) else value for name, value in fields.items()})


def pack(
    examples: Sequence[TokenPair],
    prompts: Sequence[Hashable],
    partners: Sequence[int | None],
    *,
    share_prompt: bool,
    padding_free: bool,
    differs: Sequence[Sequence[bool]] | None = None,
) -> PackedBatch:
    """Lays N examples out for one pass of the model.

    Where the prompt is empty nothing predicts the first response token: it becomes the prompt and is not scored, so
    the example's length is one less.

    Args:
        examples: Token ids of each example.
        prompts: A key of each example; examples share a prompt where their keys and their prompt ids are equal.
        partners: Index of the other example of the pair, or None.
        share_prompt: Lay equal prompts down once. Needs `padding_free`; without it every example has its own row.
        padding_free: One flat row (1, T) and attention by segment, in place of padded rows (N, L).
        differs: For each example whether each token of its response differs from the partner's.
    """
    parts = [_split(example) for example in examples]
    keys: list[Hashable] = [(key, prompt) for key, (prompt, _) in zip(prompts, parts, strict=True)]
    if not (share_prompt and padding_free):
        keys = list(range(len(parts)))
    order = list(_pairs_together(partners))
    groups: dict[Hashable, list[int]] = {}
    for index in order:
        groups.setdefault(keys[index], []).append(index)
    order = list(_pairs_together(partners, [index for group in groups.values() for index in group]))
    batch = _Layout(parts, list(groups.values()), order, [-1 if p is None else p for p in partners]).batch(padding_free)
    return batch if differs is None else dataclasses.replace(batch, differs=_of_rows(differs, batch.spans))


def _of_rows(differs: Sequence[Sequence[bool]], spans: Sequence[tuple[int, int, int]]) -> Tensor:
    """(H,) marks in the order of the rows; of a response whose first token became the prompt, those of the others."""
    ordered = [mark for example, start, stop in spans for mark in differs[example][len(differs[example]) - (stop - start) :]]
    return torch.tensor(ordered, dtype=torch.bool)


def unpack(batch: PackedBatch) -> PackedBatch:
    """The same examples as padded rows, for models whose attention cannot be told about segments."""
    if not batch.packed:
        return batch
    ids = batch.input_ids[0].tolist()
    targets = batch.targets.tolist()
    parts: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((), ())] * len(batch.lengths)
    responses = {example: tuple(targets[start:stop]) for example, start, stop in batch.spans}
    for tree in batch.trees:
        for branch in tree.branches:
            parts[branch.example] = (tuple(ids[tree.start : tree.start + tree.length]), responses[branch.example])
    order = [example for example, _, _ in batch.spans]
    layout = _Layout(parts, [[index] for index in order], order, batch.partner.tolist())
    plain = layout.batch(padding_free=False).to(batch.input_ids.device)
    return dataclasses.replace(plain, differs=batch.differs)  # the rows are in the same order


def _split(example: TokenPair) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Context and scored tokens."""
    if example.prompt:
        return tuple(example.prompt), tuple(example.response)
    return tuple(example.response[:1]), tuple(example.response[1:])


def _pairs_together(partners: Sequence[int | None], order: Sequence[int] | None = None) -> Iterator[int]:
    """Every example once, its partner right behind it."""
    seen: set[int] = set()
    for index in order if order is not None else range(len(partners)):
        for one in (index, partners[index]):
            if one is not None and one not in seen:
                seen.add(one)
                yield one


@dataclass
class _Layout:
    """Contexts and scored tokens of each example, the examples of each tree, the order of the rows."""

    parts: list[tuple[tuple[int, ...], tuple[int, ...]]]
    groups: list[list[int]]
    order: list[int]
    partners: list[int]

    def batch(self, padding_free: bool) -> PackedBatch:
        trees, ids, positions = self._trees()
        scored = [self.parts[index][1] for index in self.order]
        ends = list(accumulate(map(len, scored)))
        spans = tuple((index, end - len(part), end) for index, end, part in zip(self.order, ends, scored, strict=True))
        branches = [(tree, branch) for tree in trees for branch in tree.branches]
        flat = {branch.example: _predicting(tree, branch, len(self.parts[branch.example][1])) for tree, branch in branches}
        rows = [row for index in self.order for row in flat[index]]
        batch = PackedBatch(
            input_ids=torch.tensor([ids], dtype=torch.long),
            position_ids=torch.tensor([positions], dtype=torch.long),
            attention_mask=None,
            rows=torch.tensor(rows, dtype=torch.long),
            targets=torch.tensor([token for part in scored for token in part], dtype=torch.long),
            example=torch.tensor([index for index, part in zip(self.order, scored, strict=True) for _ in part], dtype=torch.long),
            lengths=torch.tensor([len(part[1]) for part in self.parts], dtype=torch.long),
            partner=torch.tensor(self.partners, dtype=torch.long),
            spans=spans,
            trees=trees,
            packed=True,
        )
        return batch if padding_free else _pad(batch, len(self.parts))

    def _trees(self) -> tuple[tuple[Tree, ...], list[int], list[int]]:
        trees, ids, positions = [], list[int](), list[int]()
        for group in self.groups:
            prompt = self.parts[group[0]][0]
            start = len(ids)
            ids += prompt
            positions += range(len(prompt))
            branches = []
            for index in group:
                inputs = self.parts[index][1][:-1]
                branches.append(Branch(index, len(ids), len(inputs)))
                ids += inputs
                positions += range(len(prompt), len(prompt) + len(inputs))
            trees.append(Tree(start, len(prompt), tuple(branches)))
        return tuple(trees), ids, positions


def _predicting(tree: Tree, branch: Branch, scored: int) -> list[int]:
    """Flat positions that predict the scored tokens: the prompt's last one, then the response's own inputs."""
    if not scored:
        return []
    return [tree.start + tree.length - 1, *range(branch.start, branch.start + branch.length)]


def _pad(batch: PackedBatch, count: int) -> PackedBatch:
    """Padded rows out of a flat row in which every example is a tree of its own."""
    lengths = [0] * count
    sources = {tree.branches[0].example: tree for tree in batch.trees}
    for index, tree in sources.items():
        lengths[index] = tree.length + tree.branches[0].length
    width = max([1, *lengths])
    ids, mask = torch.zeros(count, width, dtype=torch.long), torch.zeros(count, width, dtype=torch.long)
    moved = torch.zeros(batch.input_ids.shape[1], dtype=torch.long)
    for index, tree in sources.items():
        old = slice(tree.start, tree.start + lengths[index])
        ids[index, : lengths[index]] = batch.input_ids[0, old]
        mask[index, : lengths[index]] = 1
        moved[old] = torch.arange(lengths[index]) + index * width
    return dataclasses.replace(
        batch,
        input_ids=ids,
        position_ids=torch.arange(width).expand(count, width).contiguous(),
        attention_mask=mask,
        rows=moved[batch.rows],
        packed=False,
    )
