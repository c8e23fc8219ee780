"""Layout of a batch."""

from __future__ import annotations

import pickle

import pytest
import torch
from dpoframe_text.packing import PackedBatch, pack, unpack
from lightning.fabric.utilities import move_data_to_device


def _pack(examples, partners, share_prompt=True, padding_free=True) -> PackedBatch:
    keys = [example.prompt for example in examples]
    return pack(examples, keys, partners, share_prompt=share_prompt, padding_free=padding_free)


def _sees(batch: PackedBatch, row: int) -> list[int]:
    """Token ids up to a flat position of the row, through the prompt of its tree."""
    ids = batch.input_ids[0].tolist()
    for tree in batch.trees:
        prompt = ids[tree.start : tree.start + tree.length]
        if tree.start <= row < tree.start + tree.length:
            return prompt[: row - tree.start + 1]
        for branch in tree.branches:
            if branch.start <= row < branch.start + branch.length:
                return prompt + ids[branch.start : row + 1]
    raise AssertionError(f"no tree holds position {row}")


@pytest.mark.parametrize("share", [True, False])
def test_every_row_predicts_its_token_from_its_own_history(examples, partners, share) -> None:
    """The tokens before a scored token are the prompt and the response up to it, and positions count them."""
    batch = _pack(examples, partners, share)
    for example, start, stop in batch.spans:
        whole = list(examples[example].prompt + examples[example].response)
        first = max(len(examples[example].prompt), 1)
        assert batch.targets[start:stop].tolist() == whole[first:]
        assert batch.example[start:stop].tolist() == [example] * (stop - start)
        for offset, row in enumerate(batch.rows[start:stop].tolist()):
            assert _sees(batch, row) == whole[: first + offset]
            assert batch.position_ids[0, row] == first + offset - 1


def test_a_shared_prompt_is_laid_down_once(examples, partners) -> None:
    """Four responses to one prompt make one tree; the flat row holds every prompt once and no last response token."""
    batch = _pack(examples, partners)
    prompts = {example.prompt for example in examples if example.prompt}
    empty = [example for example in examples if not example.prompt]
    inputs = sum(len(example.response) - 1 for example in examples if example.prompt)
    assert batch.input_ids.shape == (1, sum(map(len, prompts)) + inputs + sum(len(example.response) - 1 for example in empty))
    assert max(len(tree.branches) for tree in batch.trees) == 4


def test_keys_can_keep_equal_prompts_apart(examples, partners) -> None:
    """Examples whose keys differ get trees of their own even where the prompts are equal."""
    apart = pack(examples, list(range(10)), partners, share_prompt=True, padding_free=True)
    assert [len(tree.branches) for tree in apart.trees] == [1] * 10


def test_the_first_token_after_an_empty_prompt_is_not_scored(examples, partners) -> None:
    """Nothing predicts it: the length is one less, and a single token leaves nothing to score."""
    batch = _pack(examples, partners)
    assert batch.lengths.tolist() == [len(e.response) - (not e.prompt) for e in examples]
    lone = _pack([type(examples[0])((), (5,))], [None])
    assert lone.lengths.tolist() == [0]
    assert len(lone.rows) == 0


def test_the_rows_of_a_pair_are_neighbours(examples, partners) -> None:
    """A tile of rows can hold whole pairs."""
    order = [example for example, _, _ in _pack(examples, partners).spans]
    assert all(partners[one] == two for one, two in zip(order[::2], order[1::2], strict=True))


def test_padded_rows_hold_the_same_examples(examples, partners) -> None:
    """Unpacking a flat row gives what packing without it gives, up to the order of rows."""
    padded, unpacked = _pack(examples, partners, padding_free=False), unpack(_pack(examples, partners))
    assert padded.attention_mask is not None
    assert torch.equal(padded.input_ids, unpacked.input_ids)
    assert torch.equal(padded.attention_mask, unpacked.attention_mask)
    for batch in (padded, unpacked):
        assert batch.input_ids.shape == (10, 11)
        for example, start, stop in batch.spans:
            first = max(len(examples[example].prompt), 1)
            assert batch.rows[start:stop].tolist() == [example * 11 + first - 1 + step for step in range(stop - start)]
            assert batch.targets[start:stop].tolist() == list((examples[example].prompt + examples[example].response)[first:])


def test_a_batch_moves_and_pickles(examples, partners) -> None:
    """Lightning moves it between devices, data-loading workers send it."""
    batch = _pack(examples, partners)
    moved = move_data_to_device({"inputs": batch}, torch.device("meta"))["inputs"]
    assert {tensor.device.type for tensor in (moved.input_ids, moved.rows, moved.targets, moved.lengths)} == {"meta"}
    assert moved.trees == batch.trees
    again = pickle.loads(pickle.dumps(batch))
    assert torch.equal(again.rows, batch.rows)
    assert again.spans == batch.spans
